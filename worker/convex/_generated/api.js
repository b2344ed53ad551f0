// What `npx convex codegen` derives; committed so that the functions type-check without a deployment.
import { anyApi } from "convex/server";

export const api = anyApi;
export const internal = anyApi;
