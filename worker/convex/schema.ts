/**
 * What is stored, and by which keys it is found.
 *
 * Two rules shape the tables. A document that is written often is never read by a subscription: heartbeats,
 * chunks and the queue of ready sessions have tables of their own. And every list that the worker reads is an
 * index range whose first rows are the answer, so that what it costs depends on neither history nor backlog.
 */
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

/** `pending → claimed → completed | failed | expired`. */
export const turnState = v.union(
  v.literal("pending"),
  v.literal("claimed"),
  v.literal("completed"),
  v.literal("failed"),
  v.literal("expired"),
);

/** Why a turn did not complete: a code for programs, a sentence for the person who reads the chat. */
export const turnError = v.object({ code: v.string(), message: v.string() });

/** Something that a permission question is about, such as the `command`, whole. */
export const shownText = v.object({ label: v.string(), text: v.string() });

const limit = v.optional(v.union(v.number(), v.null()));

export default defineSchema({
  /** One row a person who has a machine; see `lib/usage.ts`. No query reads it. */
  owners: defineTable({
    ownerId: v.string(),
    /** What they have. Missing for people from before there were counts, until `migrations:run` has counted. */
    counts: v.optional(
      v.object({ machines: v.number(), workers: v.number(), sessions: v.number(), pendingTurns: v.number() }),
    ),
    /** What an operator set; null is without limit. */
    limits: v.optional(
      v.object({
        machines: limit,
        workers: v.optional(v.number()),
        sessions: limit,
        pendingTurns: limit,
        messagesPerMinute: limit,
      }),
    ),
    /** The minute (since the Unix epoch) of the last message, and the messages in it. */
    minute: v.optional(v.number()),
    messages: v.optional(v.number()),
  }).index("by_owner", ["ownerId"]),

  machines: defineTable({
    machineId: v.string(),
    ownerId: v.string(),
    name: v.string(),
    /** Until when (ms) workers may register here that were not invited. */
    enrolmentUntil: v.optional(v.number()),
  })
    .index("by_machine_id", ["machineId"])
    .index("by_owner", ["ownerId"]),

  /** Written at start, approval and stop only; every worker function reads it. */
  workers: defineTable({
    machineId: v.string(),
    workerId: v.string(),
    ownerId: v.string(),
    secretHash: v.string(),
    approval: v.union(v.literal("pending"), v.literal("approved"), v.literal("revoked")),
    status: v.union(v.literal("offline"), v.literal("online")),
    /** The incarnation: raised at every process start. Writes of an older one are refused. */
    epoch: v.number(),
    /** Turns created before this moment (ms) are stale for this epoch. */
    staleBefore: v.number(),
    /** When a person last asked this worker to connect (ms). */
    connectRequestedAt: v.optional(v.number()),
    /** The worker's own digest of the models that it published last. */
    modelsDigest: v.optional(v.string()),
    /** When it was invited, if it was, and when it registered first (ms). */
    invitedAt: v.optional(v.number()),
    registeredAt: v.optional(v.number()),
    /** When a process registered while another one was online (ms): the last 20 times. */
    takeovers: v.optional(v.array(v.number())),
    /**
     * For how many days sessions that have ended are kept; for ever, if it is not said. When that is looked at next
     * (ms).
     */
    retentionDays: v.optional(v.number()),
    retentionAt: v.optional(v.number()),
  })
    .index("by_machine_and_worker", ["machineId", "workerId"])
    .index("by_machine_and_approval", ["machineId", "approval"])
    .index("by_owner", ["ownerId"]),

  /**
   * One row a worker that is online or has a turn that has not ended, patched with every beat; no subscription reads
   * it. See `lib/liveness.ts`.
   */
  workerHeartbeats: defineTable({
    worker: v.id("workers"),
    epoch: v.number(),
    /** When somebody last heard of it, or a message began to wait for it (ms). */
    at: v.number(),
    /** How often it means to beat (ms). */
    intervalMs: v.optional(v.number()),
    /** The check to come, and when it is due (ms). */
    check: v.optional(v.id("_scheduled_functions")),
    checkAt: v.optional(v.number()),
  }).index("by_worker", ["worker"]),

  workerModels: defineTable({
    worker: v.id("workers"),
    models: v.array(v.string()),
  }).index("by_worker", ["worker"]),

  sessions: defineTable({
    worker: v.id("workers"),
    ownerId: v.string(),
    title: v.optional(v.string()),
    model: v.optional(v.string()),
    state: v.union(v.literal("active"), v.literal("ended")),
    /** At most one session for each. */
    opencodeSessionId: v.optional(v.string()),
    /** Its OpenCode session was deleted there; cleared when it gets a new one. */
    deletedInOpencode: v.optional(v.boolean()),
  })
    .index("by_owner", ["ownerId"])
    .index("by_worker_and_state", ["worker", "state"])
    .index("by_worker_and_opencode_id", ["worker", "opencodeSessionId"]),

  /** OpenCode's sessions whose chats a person has deleted: they make no new ones. */
  forgottenSessions: defineTable({
    worker: v.id("workers"),
    opencodeSessionId: v.string(),
  }).index("by_worker_and_opencode_id", ["worker", "opencodeSessionId"]),

  /** One row a worker: up to which moment of OpenCode's clock (ms) its sessions are here. */
  syncStates: defineTable({
    worker: v.id("workers"),
    syncedUntil: v.number(),
  }).index("by_worker", ["worker"]),

  turns: defineTable({
    session: v.id("sessions"),
    worker: v.id("workers"),
    /** The message, in turns from before there were `messages`. */
    content: v.optional(v.string()),
    model: v.optional(v.string()),
    state: turnState,
    /** The epoch that claimed it. */
    epoch: v.optional(v.number()),
    endedAt: v.optional(v.number()),
    /** How many chunks the reply has, once it has ended. */
    chunks: v.optional(v.number()),
    error: v.optional(turnError),
  })
    .index("by_session", ["session"])
    .index("by_session_and_state", ["session", "state"])
    .index("by_worker_and_state", ["worker", "state"]),

  /** What was said: apart from the turn, so that neither queues nor clean-up read it. */
  messages: defineTable({
    turn: v.id("turns"),
    content: v.string(),
  }).index("by_turn", ["turn"]),

  /** The reply, in order, gapless from 0. Long replies simply have more chunks. */
  chunks: defineTable({
    turn: v.id("turns"),
    sequence: v.number(),
    text: v.string(),
  }).index("by_turn_and_sequence", ["turn", "sequence"]),

  /** The queue: one row for each session that has a pending turn and none running. */
  readySessions: defineTable({
    worker: v.id("workers"),
    session: v.id("sessions"),
    /** The oldest pending turn, and when it was sent (ms). */
    turn: v.id("turns"),
    since: v.number(),
  })
    .index("by_worker_and_since", ["worker", "since"])
    .index("by_session", ["session"]),

  /**
   * What running turns want to be allowed, while somebody is asked; the rows go when the turn ends. At most 16 a turn.
   */
  permissionQuestions: defineTable({
    ownerId: v.string(),
    session: v.id("sessions"),
    turn: v.id("turns"),
    /** Names the question in OpenCode. */
    request: v.string(),
    /** What is to be allowed, such as `bash`. */
    permission: v.string(),
    /** To what it applies, in questions from before there were `permissionTexts`. */
    patterns: v.optional(v.array(v.string())),
    /** When it counts as refused (ms). */
    expiresAt: v.number(),
    /** What the person said. */
    allow: v.optional(v.boolean()),
  })
    .index("by_owner", ["ownerId"])
    .index("by_turn", ["turn"]),

  /** What a question shows. Apart from it, because the end of a turn deletes questions and must stay small. */
  permissionTexts: defineTable({
    turn: v.id("turns"),
    question: v.id("permissionQuestions"),
    /** To what the question applies, and all that it is about. */
    patterns: v.array(v.string()),
    shown: v.array(shownText),
  })
    .index("by_question", ["question"])
    .index("by_turn", ["turn"]),

  /** How far `migrations.ts` has come, one row for each of its steps. */
  migrations: defineTable({
    name: v.string(),
    cursor: v.union(v.string(), v.null()),
    isDone: v.boolean(),
  }).index("by_name", ["name"]),

  /** Running turns that a person wants stopped; the row goes when the turn ends. */
  cancellations: defineTable({
    worker: v.id("workers"),
    turn: v.id("turns"),
  })
    .index("by_worker", ["worker"])
    .index("by_turn", ["turn"]),
});
