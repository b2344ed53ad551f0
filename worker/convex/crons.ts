/**
 * What happens by the clock.
 */
import { cronJobs } from "convex/server";
import { internal } from "./_generated/api.js";

const crons = cronJobs();
crons.interval("mark lost workers offline", { seconds: 30 }, internal.cleanup.markLostOffline, {});
crons.interval("expire turns of workers gone for long", { minutes: 5 }, internal.cleanup.expireAbandoned, {});
export default crons;
