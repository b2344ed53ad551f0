//! The limits of a Convex deployment, as <https://docs.convex.dev/production/state/limits> lists them; what is not there is
//! from `crates/common/src/knobs.rs` in <https://github.com/get-convex/convex-backend>.

use std::time::Duration;

/// Documents that one transaction may scan.
pub const DOCUMENTS_READ: usize = 32_000;
/// Bytes that one transaction may read.
pub const BYTES_READ: usize = 16 << 20;
/// Index ranges that one transaction may read.
pub const INDEX_RANGES: usize = 4_096;
/// Documents that one transaction may write.
pub const DOCUMENTS_WRITTEN: usize = 16_000;
/// Bytes that one transaction may write.
pub const BYTES_WRITTEN: usize = 16 << 20;
/// Bytes of a function's arguments.
pub const ARGUMENTS_BYTES: usize = 16 << 20;
/// Bytes of a function's result.
pub const RESULT_BYTES: usize = 16 << 20;
/// Functions that one mutation may schedule.
pub const SCHEDULED: usize = 1_000;
/// Bytes of all arguments that one mutation may schedule.
pub const SCHEDULED_BYTES: usize = 16 << 20;
/// Bytes of one document.
pub const DOCUMENT_BYTES: usize = 1 << 20;
/// Fields of one object in a document.
pub const OBJECT_FIELDS: usize = 1_024;
/// Elements of one array.
pub const ARRAY_ELEMENTS: usize = 8_192;
/// Nesting of a document.
pub const DOCUMENT_NESTING: usize = 16;
/// Nesting of any value.
pub const VALUE_NESTING: usize = 64;
/// Indexes of one table, by the documentation.
pub const INDEXES_PER_TABLE: usize = 32;
/// Fields of one index.
pub const FIELDS_PER_INDEX: usize = 16;
/// Log lines kept of one function.
pub const LOG_LINES: usize = 256;
/// Bytes kept of one log line.
pub const LOG_LINE_BYTES: usize = 4 << 10;
/// Retries of a mutation after a conflict.
pub const CONFLICT_RETRIES: u32 = 4;
/// Mutations that may wait on one socket.
pub const QUEUED_MUTATIONS: usize = 1_000;
/// Actions that may run for one socket (convex-backend, `crates/sync/src/worker.rs`: one more than the queue holds).
pub const RUNNING_ACTIONS: usize = 1_001;
/// How long an action may take.
pub const ACTION_TIME: Duration = Duration::from_secs(30 * 60);
/// Client sessions at a time, on the smallest plan.
pub const CONNECTIONS: usize = 1_000;
/// Scheduled functions that run at a time, on the smallest plan.
pub const SCHEDULED_AT_A_TIME: usize = 8;
/// Rows from which a page recommends to be split.
pub const PAGE_SPLIT_ROWS: usize = 6_144;
/// JavaScript heap.
pub const HEAP_BYTES: usize = 64 << 20;
/// Calls of QuickJS's interrupt handler (one per 10,000 back jumps and calls) that stand for the documented second
/// of user code. A count and not a time, so that a run repeats.
pub const USER_CODE_POLLS: u64 = 3_000;
