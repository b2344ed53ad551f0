//! Sequences of calls, drawn from seeds: people and workers who do sensible things most of the time.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value as Json, json};

/// When the first call is made: 2026-01-01, in milliseconds.
const BEGIN: u64 = 1_767_225_600_000;
const PEOPLE: [&str; 3] = ["ada", "bob", "eve"];

/// Draws one sequence.
pub(crate) fn draw(seed: u64, length: usize) -> Json {
    let mut draw = Draw { random: ChaCha8Rng::seed_from_u64(seed), now: BEGIN };
    let mut calls = draw.beginning();
    calls.extend((0..length).map(|_| draw.call()));
    json!({ "limits": false, "calls": calls })
}

/// So many workers and turns that what looks after them goes on in transactions that it schedules.
pub(crate) fn crowd() -> Json {
    let mut draw = Draw { random: ChaCha8Rng::seed_from_u64(0), now: BEGIN };
    let mut calls = draw.beginning();
    for at in 0..60 {
        let who =
            json!({ "machineId": { "$machine": 0 }, "workerId": format!("worker_{at}"), "secret": "right" });
        let register = json!({ "who": who, "acceptUnclaimedWithinMs": 0 });
        calls.push(draw.enrolment());
        calls.push(draw.at("mutation", "workers:register", register, None));
        let worker = row("workers", at + 1);
        calls.push(draw.at("mutation", "workers:approve", json!({ "worker": worker }), Some("ada")));
        let mut who = who;
        who["epoch"] = json!(1);
        calls.push(draw.at("mutation", "workers:markConnected", json!({ "who": who }), None));
        let session = json!({ "worker": row("workers", 1) });
        calls.push(draw.at("mutation", "chat:startSession", session, Some("ada")));
        let message = json!({ "session": row("sessions", at + 1), "content": "hello" });
        calls.push(draw.at("mutation", "chat:sendMessage", message, Some("ada")));
    }
    // Nobody is so late that what looks after the workers would give them more time.
    calls.extend((0..60).map(|_| {
        draw.now += 15_000;
        draw.due()
    }));
    json!({ "limits": false, "calls": calls })
}

struct Draw {
    random: ChaCha8Rng,
    now: u64,
}

fn row(table: &str, at: usize) -> Json {
    json!({ "$row": [table, at] })
}

impl Draw {
    fn pick(&mut self, below: usize) -> usize {
        self.random.random_range(0..below)
    }

    fn chance(&mut self, of: f64) -> bool {
        self.random.random_bool(of)
    }

    /// Whose machine, worker and session there are; without it most calls would be refused.
    fn beginning(&mut self) -> Vec<Json> {
        let mut calls =
            vec![self.at("mutation", "workers:createMachine", json!({ "name": "one" }), Some("ada"))];
        let register = json!({ "who": self.identity(), "acceptUnclaimedWithinMs": 0 });
        calls.push(self.enrolment());
        calls.push(self.at("mutation", "workers:register", register, None));
        calls.push(self.at(
            "mutation",
            "workers:approve",
            json!({ "worker": row("workers", 0) }),
            Some("ada"),
        ));
        calls.push(self.at(
            "mutation",
            "chat:startSession",
            json!({ "worker": row("workers", 0) }),
            Some("ada"),
        ));
        calls
    }

    fn enrolment(&mut self) -> Json {
        let args = json!({ "machine": { "$machine": 0 }, "minutes": 15 });
        self.at("mutation", "workers:openEnrolment", args, Some("ada"))
    }

    /// A call at the next moment.
    fn at(&mut self, kind: &str, path: &str, args: Json, who: Option<&str>) -> Json {
        self.now += 1_000 + 1_000 * self.pick(20) as u64;
        json!({ "kind": kind, "path": path, "args": args, "who": who, "now": self.now })
    }

    fn call(&mut self) -> Json {
        if self.chance(0.06) {
            return self.by_clock();
        }
        let (kind, path, mut args, who) = if self.chance(0.4) { self.by_person() } else { self.by_worker() };
        if self.chance(0.03) {
            self.spoil(&mut args);
        }
        self.at(kind, path, args, who)
    }

    /// What happens by itself, sometimes after nobody did anything for a while.
    fn by_clock(&mut self) -> Json {
        if self.chance(0.5) {
            self.now += 11 * 60_000;
        }
        let (worker, session) = (self.row("workers"), self.row("sessions"));
        let ada = format!("https://people.example|{}", PEOPLE[0]);
        match self.pick(20) {
            12 => self.at("cron", "migrations:run", json!({}), None),
            13 => self.at("cron", "migrations:count", json!({ "ownerId": ada }), None),
            6 => {
                let args = json!({ "session": session, "ownerId": ada });
                self.at("cron", "removal:session", args, None)
            }
            7 => self.at("cron", "removal:worker", json!({ "worker": worker, "ownerId": ada }), None),
            8 => {
                let machine = self.row("machines");
                self.at("cron", "removal:machine", json!({ "machine": machine, "ownerId": ada }), None)
            }
            9 => {
                let args = json!({ "ownerId": "https://people.example|eve", "until": self.now });
                self.at("cron", "removal:restOfAccount", args, None)
            }
            14 => {
                let args = json!({ "machine": self.row("machines"), "ownerId": ada });
                self.at("cron", "removal:restOfMachine", args, None)
            }
            10 => self.at("cron", "retention:look", json!({ "worker": worker, "at": self.now }), None),
            11 => {
                let args = json!({ "worker": worker, "before": self.now, "after": 0 });
                self.at("cron", "retention:page", args, None)
            }
            5 => {
                let turn = self.row("turns");
                self.at("cron", "cleanup:dropTexts", json!({ "turn": turn }), None)
            }
            0 => self.at("cron", "cleanup:check", json!({ "worker": worker, "at": self.now }), None),
            1 => self.at("cron", "cleanup:expireAbandoned", json!({ "worker": worker }), None),
            2 => self.at("cron", "cleanup:failRevoked", json!({ "worker": worker }), None),
            3 => self.at("cron", "cleanup:failEnded", json!({ "session": session }), None),
            4 => {
                let limits = json!({ "ownerId": format!("https://people.example|{}", PEOPLE[0]), "messagesPerMinute": 3 });
                self.at("cron", "limits:set", limits, None)
            }
            _ => self.due(),
        }
    }

    /// Runs what was scheduled until now.
    fn due(&mut self) -> Json {
        self.at("due", "", json!({}), None)
    }

    fn by_person(&mut self) -> (&'static str, &'static str, Json, Option<&'static str>) {
        let (session, worker, turn) = (self.row("sessions"), self.row("workers"), self.row("turns"));
        let machine = json!({ "$machine": 0 });
        let (kind, path, args) = match self.pick(20) {
            0 if self.chance(0.1) => ("mutation", "workers:deleteMachine", json!({ "machine": machine })),
            0 if self.chance(0.3) => ("mutation", "workers:createMachine", json!({ "name": "another" })),
            0 => {
                let minutes = self.pick(20);
                ("mutation", "workers:openEnrolment", json!({ "machine": machine, "minutes": minutes }))
            }
            1 if self.chance(0.05) => ("mutation", "workers:deleteAccount", json!({})),
            1 if self.chance(0.5) => ("query", "workers:listMachines", json!({})),
            2 if self.chance(0.2) => ("mutation", "workers:deleteWorker", json!({ "worker": worker })),
            5 if self.chance(0.2) => ("mutation", "chat:deleteSession", json!({ "session": session })),
            1 => ("query", "workers:list", json!({})),
            2 if self.chance(0.2) => ("mutation", "workers:closeEnrolment", json!({ "machine": machine })),
            2 if self.chance(0.3) => {
                let name = ["worker_a", "worker_c", "nobody"][self.pick(3)];
                ("mutation", "workers:invite", json!({ "machine": machine, "workerId": name }))
            }
            2 => ("mutation", "workers:approve", json!({ "worker": worker })),
            3 if self.chance(0.2) => ("mutation", "workers:revoke", json!({ "worker": worker })),
            3 if self.chance(0.2) => ("mutation", "workers:rotate", json!({ "worker": worker })),
            3 => ("mutation", "workers:requestConnect", json!({ "worker": worker })),
            4 => ("mutation", "chat:startSession", json!({ "worker": worker, "title": "a title" })),
            5 => ("mutation", "chat:endSession", json!({ "session": session })),
            6 => ("query", "chat:listSessions", self.page(json!({}))),
            7 => ("query", "chat:listTurns", self.page(json!({ "session": session }))),
            8 => ("query", "chat:listChunks", self.page(json!({ "turn": turn }))),
            9 => ("query", "workerModels:list", json!({ "worker": worker })),
            10 if self.chance(0.5) => ("query", "chat:readMessage", json!({ "turn": turn })),
            10 => ("query", "permissions:list", json!({})),
            11 | 12 => {
                let question = self.row("permissionQuestions");
                ("mutation", "permissions:answer", json!({ "question": question, "allow": self.chance(0.5) }))
            }
            _ => ("mutation", "chat:sendMessage", json!({ "session": session, "content": self.text() })),
        };
        let who = if self.chance(0.85) { Some(PEOPLE[0]) } else { PEOPLE.get(self.pick(4)).copied() };
        (kind, path, args, who)
    }

    fn plan(&self, opencode: &str, title: &str) -> Json {
        json!({
            "newSessions": [{ "opencodeSessionId": opencode, "title": title }],
            "nameUpdates": [{ "opencodeSessionId": "ses_a", "title": "renamed" }],
            "deletions": ["ses_b"],
            "syncedUntil": self.now,
        })
    }

    fn by_worker(&mut self) -> (&'static str, &'static str, Json, Option<&'static str>) {
        let (turn, session) = (self.row("turns"), self.row("sessions"));
        let (sequence, text) = (self.pick(3), self.text());
        let opencode = ["ses_short", "ses_a", "ses_b"][self.pick(3)];
        let (kind, path, mut args) = match self.pick(36) {
            0 => {
                let mut args = json!({ "who": self.identity(), "acceptUnclaimedWithinMs": 60_000 });
                if self.chance(0.3) {
                    args["retentionDays"] = json!(1);
                    args["protocol"] = json!(1 + self.pick(3));
                }
                return ("mutation", "workers:register", args, None);
            }
            1 => ("query", "workers:getByMachineAndWorker", json!({ "who": self.identity() })),
            2 if self.chance(0.5) => {
                ("mutation", "workers:heartbeat", json!({ "intervalMs": 500 + self.pick(90_000) }))
            }
            2 => ("mutation", "workers:heartbeat", json!({})),
            3 if self.chance(0.3) => ("query", "chat:isInProgress", json!({ "turn": turn })),
            3 => ("mutation", "workers:markConnected", json!({})),
            4 if self.chance(0.3) => ("mutation", "workers:setOffline", json!({})),
            4 | 5 => ("query", "chat:subscribeToWorkerMessages", json!({ "limit": 1 + self.pick(5) })),
            6 => ("query", "chat:getActiveSessions", self.page(json!({}))),
            7 => (
                "mutation",
                "chat:sessionReady",
                json!({ "session": session, "opencodeSessionId": format!("ses_{text}") }),
            ),
            8 => ("mutation", "chat:expireStale", json!({ "limit": 1 + self.pick(3), "running": [turn] })),
            9 => ("mutation", "workerModels:updateModels", json!({ "models": [text, "m"], "digest": text })),
            10 | 11 => (
                "mutation",
                "chat:completeMessage",
                json!({ "turn": turn, "sequence": sequence, "text": text }),
            ),
            12 => (
                "mutation",
                "chat:failMessage",
                json!({ "turn": turn, "error": { "code": "c", "message": text } }),
            ),
            13..=15 => {
                ("mutation", "chat:writeChunk", json!({ "turn": turn, "sequence": sequence, "text": text }))
            }
            16 => (
                "mutation",
                "sync:createSyncedSession",
                json!({ "opencodeSessionId": opencode, "title": text }),
            ),
            17 => (
                "mutation",
                "sync:updateSessionName",
                json!({ "opencodeSessionId": opencode, "title": text }),
            ),
            18 => ("mutation", "sync:markSessionDeletedInOpencode", json!({ "opencodeSessionId": opencode })),
            19 => ("mutation", "sync:applyPlan", self.plan(opencode, &text)),
            20 => ("mutation", "sync:updateLastSyncTimestamp", json!({ "timestamp": self.now })),
            21 => ("query", "sync:getLastSyncTimestamp", json!({})),
            22 => ("query", "sync:linkedSessions", json!({ "opencodeSessionIds": [opencode, "ses_none"] })),
            23 => ("query", "sync:pageOfLinkedSessions", json!({ "after": "", "limit": 1 + self.pick(3) })),
            24..=28 => self.about_permissions(&turn, &text),
            _ => ("mutation", "chat:claim", json!({ "turn": turn })),
        };
        if args.get("who").is_none() {
            let mut who = self.identity();
            // Few processes have started; the newest one's epoch is among the first numbers.
            who["epoch"] = json!(1 + self.pick(3));
            args["who"] = who;
        }
        (kind, path, args, None)
    }

    fn about_permissions(&mut self, turn: &Json, text: &str) -> (&'static str, &'static str, Json) {
        let request = ["per_1", "per_2"][self.pick(2)];
        match self.pick(5) {
            0 => ("mutation", "permissions:withdraw", json!({ "turn": turn, "request": request })),
            1 | 2 => ("query", "permissions:subscribeToAnswers", json!({ "turn": turn })),
            _ => {
                let mut args = json!({
                    "turn": turn, "request": request, "permission": "bash", "patterns": [text], "timeoutMs": 1_000,
                });
                if self.chance(0.5) {
                    args["shown"] = json!([{ "label": "command", "text": text.repeat(10) }]);
                }
                ("mutation", "permissions:ask", args)
            }
        }
    }

    fn identity(&mut self) -> Json {
        let secret = if self.chance(0.97) { "right" } else { "wrong" };
        let worker = if self.chance(0.9) { "worker_a" } else { "worker_b" };
        json!({ "machineId": { "$machine": 0 }, "workerId": worker, "secret": secret })
    }

    fn row(&mut self, table: &str) -> Json {
        let at = if self.chance(0.5) { 0 } else { self.pick(8) };
        row(table, at)
    }

    fn page(&mut self, mut args: Json) -> Json {
        let cursor = if self.chance(0.5) { Json::Null } else { json!({ "$cursor": true }) };
        args["paginationOpts"] = json!({ "numItems": 1 + self.pick(4), "cursor": cursor });
        args
    }

    fn text(&mut self) -> String {
        ["", "short", "naïve 日本語", "longer than the others by far", "🦀"][self.pick(5)].to_owned()
    }

    /// Makes arguments wrong: one too few, one too many, or one of another kind.
    fn spoil(&mut self, args: &mut Json) {
        let fields = args.as_object_mut().expect("arguments are an object");
        let name = fields.keys().next().cloned().unwrap_or_default();
        match self.random.random_range(0..3) {
            0 => drop(fields.remove(&name)),
            1 => drop(fields.insert("unexpected".into(), json!(1))),
            _ => drop(fields.insert(name, json!([true]))),
        }
    }
}
