// Runs sequences of calls through convex-test: `node js/functions.mjs DIRECTORY CALLS`, where DIRECTORY holds the
// functions and CALLS is a file with one sequence a line: {limits, calls: [{kind, path, args, who, now}]}. A `kind` is
// that of the function, `cron` (a mutation, called by nobody) or `due` (runs what was scheduled until then).
// Prints a line for each: {results: [{value, ahead} | {code} | {error}], tables: {name: [documents]}}.
//
// In `args`, {"$row": [table, n]} is the id of a document (the nth by creation, counted in a circle) and
// `ahead`: the page was asked for with a cursor that is wrong, see docs/fidelity.md.
// {"$machine": 0} is the first machine's name. A cursor that is not null is where the last page of the same query ended.
import { build } from "esbuild";
import { convexTest } from "convex-test";
import { anyApi } from "convex/server";
import { ConvexError, convexToJson, jsonToConvex } from "convex/values";
import { mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, calls] = process.argv.slice(2).map((path) => resolve(path));
// Below node_modules, so that the functions find `convex`.
const compiled = resolve(`node_modules/.functions-${process.pid}`);
mkdirSync(compiled, { recursive: true });
process.on("exit", () => rmSync(compiled, { recursive: true, force: true }));

const files = listFiles(directory);
await build({ entryPoints: files, outdir: compiled, outbase: directory, format: "esm", target: "es2022", logLevel: "error" });
const modules = {};
for (const file of listFiles(compiled)) modules[`/convex/${relative(compiled, file)}`] = () => import(pathToFileURL(file).href);
const schema = (await import(pathToFileURL(`${compiled}/schema.js`).href)).default;
const tables = Object.keys(schema.tables);

let now = 0;
Date.now = () => now;
// What is scheduled waits for a step that runs it.
let timers = [];
globalThis.setTimeout = (run, delay = 0) => timers.push({ at: now + delay, run });

async function runDue(t) {
  const isDue = ({ at }) => at <= now;
  while (timers.some(isDue)) {
    const due = timers.filter(isDue);
    timers = timers.filter((timer) => !isDue(timer));
    for (const { run } of due) run();
    await t.finishInProgressScheduledFunctions();
  }
}

function listFiles(root) {
  const files = readdirSync(root, { recursive: true }).filter((file) => /\.[jt]s$/.test(file) && !file.endsWith(".d.ts"));
  return files.map((file) => join(root, file));
}

const rows = (t, table) => t.run(async (ctx) => (await ctx.db.query(table).collect()).map(({ _id }) => _id));

async function resolved(t, value) {
  if (Array.isArray(value)) return Promise.all(value.map((item) => resolved(t, item)));
  if (value === null || typeof value !== "object") return value;
  if ("$row" in value) {
    const ids = await rows(t, value.$row[0]);
    return ids.length === 0 ? "none" : ids[value.$row[1] % ids.length];
  }
  if ("$machine" in value) return t.run(async (ctx) => (await ctx.db.query("machines").first())?.machineId ?? "none");
  const fields = Object.entries(value).map(async ([name, field]) => [name, await resolved(t, field)]);
  return Object.fromEntries(await Promise.all(fields));
}

async function call(t, cursors, { kind, path, args, who, now: at }) {
  now = at;
  if (kind === "due") {
    await runDue(t);
    return { value: null };
  }
  if (kind === "cron") kind = "mutation";
  const subject = who === null ? t : t.withIdentity({ issuer: "https://people.example", subject: who, tokenIdentifier: `https://people.example|${who}` });
  const named = path.split(/[:/]/).reduce((api, name) => api[name], anyApi);
  const given = await resolved(t, args);
  // A cursor belongs to the query that gave it.
  const query = JSON.stringify([path, who, { ...given, paginationOpts: null }]);
  const last = given.paginationOpts?.cursor ? (cursors.get(query) ?? { cursor: null, ahead: false }) : { cursor: null, ahead: false };
  if (given.paginationOpts?.cursor) given.paginationOpts.cursor = last.cursor;
  try {
    const value = await subject[kind](named, jsonToConvex(given));
    if (value && typeof value === "object" && "continueCursor" in value) {
      // A full page that calls itself the last: its cursor is the end, and shows nothing that is added later. One of
      // sessions may have been full before those of deleted workers were left out of it.
      const mayBeFull = path === "chat:listSessions" || value.page.length === given.paginationOpts.numItems;
      const ahead = last.ahead || (value.isDone && mayBeFull);
      cursors.set(query, { cursor: value.continueCursor, ahead });
    }
    return { value: convexToJson(value === undefined ? null : value), ahead: last.ahead };
  } catch (error) {
    if (error instanceof ConvexError) return { code: convexToJson(error.data) };
    return { error: String(error.message) };
  }
}

for (const line of readFileSync(calls, "utf8").split("\n").filter(Boolean)) {
  const sequence = JSON.parse(line);
  timers = [];
  const t = convexTest({ schema, modules, transactionLimits: sequence.limits });
  const [results, cursors, dump] = [[], new Map(), {}];
  for (const step of sequence.calls) results.push(await call(t, cursors, step));
  if (!sequence.limits) for (const table of tables) dump[table] = await t.run(async (ctx) => (await ctx.db.query(table).collect()).map(convexToJson));
  process.stdout.write(`${JSON.stringify({ results, tables: dump })}\n`);
}
