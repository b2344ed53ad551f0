// What a handler gets as `ctx`, and how one is run.
import { host } from "convex/host";
import { getFunctionName } from "convex/server";
import { ConvexError } from "convex/values";

const COMPARISONS = { eq: 0, gt: 1, gte: 2, lt: 3, lte: 4 };

class Range {
  constructor(steps) {
    this.steps = steps;
  }
}
for (const [name, code] of Object.entries(COMPARISONS)) {
  Range.prototype[name] = function (field, value) {
    this.steps.push(code, field, value);
    return this;
  };
}

const operand = (value) => {
  if (value instanceof Expression) return value.json;
  return value === undefined ? { $undefined: true } : { $literal: value };
};
class Expression {
  constructor(json) {
    this.json = json;
  }
}
const filterBuilder = { field: (path) => new Expression({ $field: path }) };
for (const name of ["eq", "neq", "lt", "lte", "gt", "gte", "add", "sub", "mul", "div", "mod"]) {
  filterBuilder[name] = (a, b) => new Expression({ [`$${name}`]: [operand(a), operand(b)] });
}
for (const name of ["and", "or"]) {
  filterBuilder[name] = (...parts) => new Expression({ [`$${name}`]: parts.map(operand) });
}
for (const name of ["not", "neg"]) filterBuilder[name] = (part) => new Expression({ [`$${name}`]: operand(part) });

class Query {
  index = null;
  steps = [];
  descending = false;
  condition = null;
  used = false;

  constructor(table) {
    this.table = table;
  }
  withIndex(name, range) {
    if (this.index !== null) throw new Error("a query reads one index");
    this.index = name;
    if (range !== undefined) range(new Range(this.steps));
    return this;
  }
  withSearchIndex() {
    throw new Error("the simulator does not model search indexes");
  }
  fullTableScan() {
    return this;
  }
  order(order) {
    if (order !== "asc" && order !== "desc") throw new Error(`order is "asc" or "desc", not ${order}`);
    this.descending = order === "desc";
    return this;
  }
  filter(predicate) {
    const json = operand(predicate(filterBuilder));
    this.condition = this.condition === null ? json : { $and: [this.condition, json] };
    return this;
  }
  #read(limit) {
    if (this.used) throw new Error("This query is already iterated over: a query can be used only once.");
    this.used = true;
    return host.query(this, limit);
  }
  async take(count) {
    if (!Number.isInteger(count) || count < 0) throw new Error(`take() needs a non-negative integer, not ${count}`);
    return this.#read(count);
  }
  async collect() {
    return this.#read(-1);
  }
  async first() {
    return this.#read(1)[0] ?? null;
  }
  async unique() {
    const found = this.#read(2);
    if (found.length > 1) {
      throw new Error(`unique() query returned more than one result from table ${this.table}:\n [${found[0]._id}, ${found[1]._id}, ...]`);
    }
    return found[0] ?? null;
  }
  async paginate(options) {
    return host.paginate(this, options);
  }
  async *[Symbol.asyncIterator]() {
    const stream = host.open(this);
    for (let found = host.next(stream); found !== null; found = host.next(stream)) yield found;
  }
}

// The table may come first in every call that takes an id.
const reader = {
  get: async (a, b) => host.get(b ?? a),
  query: (table) => new Query(table),
  normalizeId: (table, id) => host.normalizeId(table, id),
};
reader.system = { get: reader.get, query: reader.query, normalizeId: reader.normalizeId };
const writer = {
  ...reader,
  insert: async (table, value) => host.insert(table, value),
  patch: async (a, b, c) => void (c === undefined ? host.patch(a, b) : host.patch(b, c)),
  replace: async (a, b, c) => void (c === undefined ? host.replace(a, b) : host.replace(b, c)),
  delete: async (a, b) => void host.remove(b ?? a),
};
const auth = { getUserIdentity: async () => host.identity() };
const scheduler = {
  runAfter: async (delay, target, args) => {
    if (!Number.isFinite(delay) || delay < 0) throw new Error("`delayMs` must be a non-negative number");
    return host.schedule(host.now() + delay, getFunctionName(target), args ?? {});
  },
  runAt: async (when, target, args) => host.schedule(Number(when), getFunctionName(target), args ?? {}),
  cancel: async (id) => void host.cancel(id),
};
const refused = {
  get storage() {
    throw new Error("the simulator does not model ctx.storage");
  },
};

const notInActions = (what) => {
  throw new Error(`the simulator does not model ${what} in actions`);
};
const refusedInActions = {
  __proto__: refused,
  runAction: () => notInActions("ctx.runAction"),
  vectorSearch: () => notInActions("ctx.vectorSearch"),
  get scheduler() {
    return notInActions("ctx.scheduler");
  },
};

// Each call of an action is a transaction of its own, which the action waits for.
const call = (mutates) => (target, args) =>
  new Promise((resolve, reject) =>
    host.ask(mutates, getFunctionName(target), args ?? {}, (succeeded, value, message) => {
      if (succeeded) resolve(value);
      else reject(value === undefined ? new Error(message) : Object.assign(new ConvexError(value), { message }));
    }),
  );

function context(kind) {
  if (kind === "action") {
    return Object.assign(Object.create(refusedInActions), { auth, runQuery: call(false), runMutation: call(true) });
  }
  const ctx = Object.create(refused);
  ctx.auth = auth;
  ctx.db = kind === "mutation" ? writer : reader;
  ctx.runQuery = (target, args) => nested("query", target, args);
  if (kind === "mutation") {
    ctx.scheduler = scheduler;
    // Nested mutations of one function run one after the other, as there is one transaction.
    let last = Promise.resolve();
    ctx.runMutation = (target, args) => {
      const run = last.then(() => nested("mutation", target, args));
      last = run.catch(() => {});
      return run;
    };
  }
  return ctx;
}

// A nested function shares the transaction; what it wrote is undone if it throws.
async function nested(kind, target, args) {
  const name = getFunctionName(target);
  const [definition, checked] = host.enter(kind, name, args ?? {});
  const savepoint = host.savepoint();
  try {
    return host.leave(name, await definition.handler(context(kind), checked));
  } catch (error) {
    host.rollBack(savepoint);
    throw error;
  }
}

export async function run(definition, args) {
  return definition.handler(context(definition.kind), args);
}
