// What `npx convex codegen` derives; committed so that the functions type-check without a deployment.
import type { ApiFromModules, FilterApi, FunctionReference } from "convex/server";
import type * as chat from "../chat.js";
import type * as cleanup from "../cleanup.js";
import type * as limits from "../limits.js";
import type * as migrations from "../migrations.js";
import type * as permissions from "../permissions.js";
import type * as removal from "../removal.js";
import type * as retention from "../retention.js";
import type * as sync from "../sync.js";
import type * as workerModels from "../workerModels.js";
import type * as workers from "../workers.js";

declare const fullApi: ApiFromModules<{
  chat: typeof chat;
  cleanup: typeof cleanup;
  limits: typeof limits;
  migrations: typeof migrations;
  permissions: typeof permissions;
  removal: typeof removal;
  retention: typeof retention;
  sync: typeof sync;
  workerModels: typeof workerModels;
  workers: typeof workers;
}>;
export declare const api: FilterApi<typeof fullApi, FunctionReference<any, "public">>;
export declare const internal: FilterApi<typeof fullApi, FunctionReference<any, "internal">>;
