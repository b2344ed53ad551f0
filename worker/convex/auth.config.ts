/**
 * Who vouches for people. Point it to your identity provider, or replace it by the file of your auth library.
 */
declare const process: { env: Record<string, string | undefined> };

export default {
  providers: [
    {
      domain: process.env.AUTH_ISSUER,
      applicationID: process.env.AUTH_AUDIENCE ?? "convex",
    },
  ],
};
