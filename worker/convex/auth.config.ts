/**
 * Who vouches for people. Point it to your identity provider, or replace it by the file of your auth library.
 *
 * Convex refuses a push while a variable that this file reads is not set, whatever stands beside it as a default: set
 * both on a deployment before the first push.
 */
declare const process: { env: Record<string, string | undefined> };

export default {
  providers: [
    {
      domain: process.env.AUTH_ISSUER,
      applicationID: process.env.AUTH_AUDIENCE,
    },
  ],
};
