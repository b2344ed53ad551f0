// The native functions, taken from the global object before any other module can see them.
export const host = globalThis.__convexHost;
delete globalThis.__convexHost;
