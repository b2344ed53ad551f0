// Convex's npm client, steered line by line: commands as JSON on standard input, results on standard output.
//
// {op:"connect", url}            {op:"auth", token}          {op:"close"}
// {op:"mutation"|"action"|"query"|"http", id, path, args}    → {id, value} or {id, code}
// {op:"subscribe", id, path, args}, {op:"unsubscribe", id}   → {id, value} or {id, code} at every change
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { ConvexError, convexToJson, jsonToConvex } from "convex/values";
import { createInterface } from "node:readline";

let client, http;
const subscriptions = new Map();
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const answer = (id, value) => say({ id, value: convexToJson(value === undefined ? null : value) });
const fail = (id, error) => say({ id, code: error instanceof ConvexError ? error.data.code : null, message: String(error.message) });
const named = (path) => path.split(/[:/]/).reduce((api, name) => api[name], anyApi);

const quiet = () => {};
const logger = { logVerbose: quiet, log: quiet, warn: quiet, error: quiet };

const ops = {
  connect({ url }) {
    client = new ConvexClient(url, { skipConvexDeploymentUrlCheck: true, logger, unsavedChangesWarning: false });
    http = new ConvexHttpClient(url, { skipConvexDeploymentUrlCheck: true, logger });
  },
  auth({ token }) {
    client.setAuth(async () => token);
    if (token) http.setAuth(token);
    else http.clearAuth();
  },
  async close() {
    await client.close();
    process.exit(0);
  },
  subscribe({ id, path, args }) {
    const stop = client.onUpdate(named(path), args, (value) => answer(id, value), (error) => fail(id, error));
    subscriptions.set(id, stop);
  },
  unsubscribe: ({ id }) => subscriptions.get(id)(),
};

const calls = {
  mutation: ({ path, args }) => client.mutation(named(path), args),
  action: ({ path, args }) => client.action(named(path), args),
  query: ({ path, args }) => client.query(named(path), args),
  httpQuery: ({ path, args }) => http.query(named(path), args),
  httpMutation: ({ path, args }) => http.mutation(named(path), args),
  httpAction: ({ path, args }) => http.action(named(path), args),
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.args) command.args = jsonToConvex(command.args);
  if (command.op in ops) ops[command.op](command);
  else calls[command.op](command).then((value) => answer(command.id, value), (error) => fail(command.id, error));
}).on("close", () => process.exit(0));
