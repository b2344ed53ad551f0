//! What the bugs change in the text of the backend's functions.

use std::collections::BTreeMap;

use super::Plant;

/// One piece of a file's text, and what stands in its place.
struct Edit {
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

fn chat(from: &'static str, to: &'static str) -> Edit {
    Edit { file: "chat.ts", from, to }
}

/// The edits of a bug; none if it belongs elsewhere.
fn of(plant: Plant) -> Vec<Edit> {
    match plant {
        Plant::ExpiryOff => vec![
            chat("if (turn._creationTime < worker.staleBefore) {", "if (false) {"),
            chat("[...abandoned.page, ...stale.page]", "[...abandoned.page, ...stale.page].slice(0, 0)"),
        ],
        Plant::ClaimOff => {
            vec![chat("await ctx.db.patch(turn._id, { state: \"claimed\", epoch: worker.epoch });", "")]
        }
        Plant::SequenceOff => vec![
            chat("if (sequence < next) return;", ""),
            chat("if (sequence > next) throw", "if (false) throw"),
            chat("{ turn, sequence, text }", "{ turn, sequence: Math.floor(sequence / 2), text }"),
        ],
        Plant::TailOff => vec![chat("if (text !== \"\") await append(ctx, turn._id, sequence, text);", "")],
        Plant::IndexOff => vec![chat(
            "const session = await ctx.db.get(turn.session);",
            "const session = await ctx.db.get(turn.session); await ctx.db.query(\"turns\").collect();",
        )],
        Plant::NewestFirst => vec![chat(
            ".withIndex(\"by_worker_and_since\", (q) => q.eq(\"worker\", worker._id))",
            ".withIndex(\"by_worker_and_since\", (q) => q.eq(\"worker\", worker._id)).order(\"desc\")",
        )],
        Plant::RenamesLost => vec![Edit {
            file: "sync.ts",
            from: "await ctx.db.patch(session._id, { title: cut(title) });",
            to: "",
        }],
        Plant::FenceOff => {
            vec![Edit { file: "lib/auth.ts", from: "if (worker.epoch !== who.epoch) {", to: "if (false) {" }]
        }
        Plant::SweepOff => vec![Edit {
            file: "cleanup.ts",
            from: "const { isDone } = await endOpenTurns(ctx, worker, roomFor(PAGE), before, expire);",
            to: "const isDone = true;",
        }],
        Plant::CleanUpShared => vec![
            chat(
                "await ctx.db.insert(\"messages\", { turn, content });",
                "await ctx.db.patch(turn, { content }); await ctx.db.insert(\"messages\", { turn, content });",
            ),
            Edit {
                file: "cleanup.ts",
                from: "const { isDone } = await endOpenTurns(ctx, worker, roomFor(PAGE), before, expire);",
                to: "let isDone = true;
                     for (const gone of await ctx.db.query(\"workerHeartbeats\").collect()) {
                       const other = gone.at > before ? null : await ctx.db.get(gone.worker);
                       if (other === null) continue;
                       const page = await endOpenTurns(ctx, other, roomFor(PAGE), before, expire);
                       isDone = isDone && page.isDone;
                     }",
            },
        ],
        Plant::GoodbyeOff => vec![Edit {
            file: "workers.ts",
            from: "if (worker.status !== \"offline\") await ctx.db.patch(worker._id, { status: \"offline\" });",
            to: "",
        }],
        _ => Vec::new(),
    }
}

impl Plant {
    /// Plants the bug into the backend's functions, if it belongs there.
    ///
    /// # Panics
    /// If the functions changed so that the place is not found: a bug that is not planted proves nothing.
    pub fn plant_in_sources(self, sources: &mut BTreeMap<String, String>) {
        for Edit { file, from, to } in of(self) {
            let text = sources.get_mut(file).unwrap_or_else(|| panic!("the backend has no {file}"));
            assert!(text.contains(from), "{self:?} cannot be planted: {file} has no `{from}` any more");
            *text = text.replace(from, to);
        }
    }
}
