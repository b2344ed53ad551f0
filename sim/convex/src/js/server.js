// `convex/server`: how functions, schemas and crons are declared, and references to functions.
import { asObjectValidator, v } from "convex/values";

const notModelled = (what) => {
  throw new Error(`the simulator does not model ${what}`);
};

// ── Functions ────────────────────────────────────────────────────────────────

const declare = (kind, visibility) => (given) => {
  const handler = typeof given === "function" ? given : given.handler;
  if (typeof handler !== "function") throw new Error(`a ${kind} needs a handler`);
  const definition = (ctx, args) => handler(ctx, args);
  return Object.assign(definition, {
    isConvexFunction: true,
    kind,
    visibility,
    handler,
    argsJson: given.args === undefined ? null : asObjectValidator(given.args).json,
    returnsJson: given.returns === undefined ? null : asObjectValidator(given.returns).json,
  });
};

export const queryGeneric = declare("query", "public");
export const mutationGeneric = declare("mutation", "public");
export const actionGeneric = declare("action", "public");
export const internalQueryGeneric = declare("query", "internal");
export const internalMutationGeneric = declare("mutation", "internal");
export const internalActionGeneric = declare("action", "internal");
export {
  queryGeneric as query,
  mutationGeneric as mutation,
  actionGeneric as action,
  internalQueryGeneric as internalQuery,
  internalMutationGeneric as internalMutation,
  internalActionGeneric as internalAction,
};
export const httpActionGeneric = () => notModelled("HTTP actions");
export const httpAction = httpActionGeneric;
export const httpRouter = () => notModelled("HTTP routers");
export const defineApp = () => notModelled("components");
export const defineComponent = () => notModelled("components");

// ── References ───────────────────────────────────────────────────────────────

const functionName = Symbol.for("functionName");

function reference(parts) {
  return new Proxy({}, {
    get(_, part) {
      if (part === functionName) return `${parts.slice(0, -1).join("/")}:${parts.at(-1)}`;
      return typeof part === "string" ? reference([...parts, part]) : undefined;
    },
  });
}

export const anyApi = reference([]);
export const api = anyApi;
export const internal = anyApi;

export function getFunctionName(given) {
  const name = typeof given === "string" ? given : given?.[functionName];
  if (typeof name !== "string" || name.startsWith(":")) throw new Error(`${given} is not a reference to a function`);
  return name;
}
export const makeFunctionReference = (name) => ({ [functionName]: name });

// ── Schema ───────────────────────────────────────────────────────────────────

class Table {
  constructor(document) {
    this.documentType = asObjectValidator(document);
    this.validator = this.documentType;
    this.indexes = [];
  }
  index(name, given) {
    this.indexes.push({ name, fields: Array.isArray(given) ? given : given.fields });
    return this;
  }
  searchIndex() {
    return notModelled("search indexes");
  }
  vectorIndex() {
    return notModelled("vector indexes");
  }
}

export const defineTable = (document) => new Table(document);

export function defineSchema(tables, options = {}) {
  return {
    isConvexSchema: true,
    tables,
    exported: {
      schemaValidation: options.schemaValidation ?? true,
      tables: Object.fromEntries(
        Object.entries(tables).map(([name, table]) => [
          name,
          { indexes: table.indexes, documentType: table.documentType.json },
        ]),
      ),
    },
  };
}

export const paginationOptsValidator = v.object({
  numItems: v.number(),
  cursor: v.union(v.string(), v.null()),
  endCursor: v.optional(v.union(v.string(), v.null())),
  id: v.optional(v.number()),
  maximumRowsRead: v.optional(v.number()),
  maximumBytesRead: v.optional(v.number()),
});

export const paginationResultValidator = (item) =>
  v.object({
    page: v.array(item),
    continueCursor: v.string(),
    isDone: v.boolean(),
    splitCursor: v.optional(v.union(v.string(), v.null())),
    pageStatus: v.optional(v.union(v.literal("SplitRecommended"), v.literal("SplitRequired"), v.null())),
  });

// ── Crons ────────────────────────────────────────────────────────────────────

class Crons {
  isCrons = true;
  exported = [];
  #add(name, schedule, target, args = {}) {
    if (this.exported.some((cron) => cron.name === name)) throw new Error(`two crons are named ${name}`);
    this.exported.push({ name, schedule, path: getFunctionName(target), args });
  }
  interval(name, schedule, target, args) {
    this.#add(name, { type: "interval", ...schedule }, target, args);
  }
  hourly(name, schedule, target, args) {
    this.#add(name, { type: "hourly", ...schedule }, target, args);
  }
  daily(name, schedule, target, args) {
    this.#add(name, { type: "daily", ...schedule }, target, args);
  }
  weekly(name, schedule, target, args) {
    this.#add(name, { type: "weekly", ...schedule }, target, args);
  }
  monthly() {
    notModelled("monthly crons");
  }
  cron() {
    notModelled("crons in cron syntax");
  }
}

export const cronJobs = () => new Crons();
