// What a Convex function finds in its global scope. Time and randomness come from the host: the clock is frozen
// during an execution, the random stream is seeded for each one.
(() => {
  const host = globalThis.__convexHost;
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });

  // Convex runs in UTC; the machine's zone must not be seen.
  const RealDate = Date;
  class UtcDate extends RealDate {
    constructor(...parts) {
      if (parts.length === 0) super(host.now());
      else if (parts.length === 1) super(parts[0]);
      else super(RealDate.UTC(...parts));
    }
    static now() {
      return host.now();
    }
    getTimezoneOffset() {
      return 0;
    }
    toString() {
      return this.toUTCString();
    }
  }
  for (const part of ["FullYear", "Month", "Date", "Day", "Hours", "Minutes", "Seconds", "Milliseconds"]) {
    UtcDate.prototype[`get${part}`] = RealDate.prototype[`getUTC${part}`];
    if (part !== "Day") UtcDate.prototype[`set${part}`] = RealDate.prototype[`setUTC${part}`];
  }
  define("Date", UtcDate);
  Math.random = () => host.random();

  const bytesOf = (data) => {
    if (data instanceof ArrayBuffer) return data;
    if (ArrayBuffer.isView(data)) return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
    throw new TypeError("expected an ArrayBuffer or a view of one");
  };
  const hex = (byte) => byte.toString(16).padStart(2, "0");
  define("crypto", {
    subtle: {
      async digest(algorithm, data) {
        const name = typeof algorithm === "string" ? algorithm : algorithm.name;
        if (name.toUpperCase() !== "SHA-256") throw new Error(`the simulator does not model the digest ${name}`);
        return host.sha256(bytesOf(data));
      },
    },
    getRandomValues(view) {
      new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(new Uint8Array(host.randomBytes(view.byteLength)));
      return view;
    },
    randomUUID() {
      const bytes = new Uint8Array(host.randomBytes(16));
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const text = Array.from(bytes, hex).join("");
      return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
    },
  });

  define("TextEncoder", class TextEncoder {
    encoding = "utf-8";
    encode(text = "") {
      return new Uint8Array(host.utf8Encode(String(text)));
    }
  });
  define("TextDecoder", class TextDecoder {
    encoding = "utf-8";
    decode(data) {
      return data === undefined ? "" : host.utf8Decode(bytesOf(data));
    }
  });

  const show = (value) => {
    if (typeof value === "string") return `'${value}'`;
    if (typeof value === "bigint") return `${value}n`;
    if (value instanceof Error) return String(value.stack ?? value);
    if (typeof value !== "object" || value === null) return String(value);
    try {
      return JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}n` : inner));
    } catch {
      return "[object]";
    }
  };
  const logger = (level) => (...values) => host.log(`[${level}] ${values.map(show).join(" ")}`);
  define("console", {
    debug: logger("DEBUG"), log: logger("LOG"), info: logger("INFO"), warn: logger("WARN"), error: logger("ERROR"),
    trace: logger("LOG"),
  });

  for (const name of ["fetch", "setTimeout", "setInterval"]) {
    define(name, () => {
      if (host.isAction()) throw new Error(`the simulator does not model ${name}() in actions`);
      throw new Error(
        `Can't use ${name}() in queries and mutations. Please consider using an action. See https://docs.convex.dev/functions/actions for more details.`,
      );
    });
  }
})();
