// Where blanking alone would change the program, and all syntax whose types are erased. Nothing here is run: TypeScript's
// own emit and the blanked text are compared as syntax trees.
import type { Doc } from "./types";
import { type Id, helper } from "./values";
import type * as everything from "./types";
export type { Doc } from "./types";
export { type Id, helper } from "./values";

declare const ambient: number;
declare global {
  interface Window { name: string }
}
interface Shape<T extends object = {}> { readonly area: T; [key: string]: unknown }
type Pair<A, B = A> = [first: A, second?: B];
export type Mapped = { [K in keyof Shape as `get${K & string}`]?: Shape[K] };
declare function declared(a: number): void;
declare namespace Hidden { const value: number }
namespace TypesAlone { export type T = string }

// A type at the start of a line, after an expression without a semicolon.
let open = helper
type AfterOpen = string
(open as any).call();

let cast = open as unknown
[1, 2].forEach((n) => n);

let satisfied = open satisfies unknown
`template`.trim();

interface BeforeParen { a: 1 }
(() => 1)();

let trailing = open!
/re/g.test("re");

let twice = open as any as string
+1;

// Arrows whose types span lines.
const wide = (
  a: number,
  b?: string,
): Pair<
  number,
  string
> => [a, b];
const returning = (a: {
  b: number;
}): {
  c: number;
} => ({ c: a.b });
const generic = <
  T,
>(value: T): T => value;
const awaited = async <T,>(
  value: T,
): Promise<
  T
> => value;
const guard = (x: unknown): x is string => typeof x === "string";
function assertString(x: unknown): asserts x is string { if (typeof x !== "string") throw new TypeError("no string"); }
function withThis(this: Window, a: number): void {}
function onlyThis(this: Window) {}

// Overloads and optional, definite and readonly marks.
function overloaded(a: string): string;
function overloaded(a: number): number;
function overloaded(a: unknown): unknown { return a; }

abstract class Base<T> {
  abstract size: number;
  abstract measure(a: T): number;
  declare hidden: string;
  public shown: string = "a";
  private readonly secret?: number;
  protected definite!: T;
  static readonly count: number = 1;
  [index: string]: unknown;
  open = 1
  public ["computed"] = 2;
  other = this.open
  private *generator(): Generator<number> { yield 1; }
  constructor(a: T, private_?: string) { this.definite = a; }
  method?(): void;
  private get value(): number { return this.open as number; }
  protected set value(to: number) { this.open = to!; }
}
class Derived<T> extends Base<T> implements Shape<{}>, Iterable<T> {
  override measure(a: T): number { return super.value!; }
  declare area: {};
  size = 1;
  *[Symbol.iterator](): Iterator<T> {}
}
const anonymous = class<T> extends Map<string, T> {};

// Assertions in all places.
const chained = (open as any)?.a!.b![0]!.c as const;
const called = helper<string, number>(open as any, ...([] as number[]));
const made = new Map<string, Array<Array<number>>>();
const instantiated = helper<string>;
const tagged = helper<string>`text ${open as string}`;
const compared = (open as number) < 1 && (cast as number) > 2;
const mixed = ((open as any) + (cast as any)) * (satisfied satisfies any);
(open as any) = 1;
for (const item of [open] as unknown[]) void (item as any);
for (let i: number = 0; i < 2; i++) continue;
try { helper(); } catch (error: unknown) { throw error as Error; }
const { a, b: renamed = 1 }: { a: number; b?: number } = open as any;
const [first, ...rest]: number[] = [1, 2];
function defaults(a: number = 1, { b, c }: { b?: string; c?: number } = {}, ...others: unknown[]): void {}
const object = { method<T>(a: T): T { return a; }, async *many(): AsyncGenerator<1> {}, get x(): number { return 1; } };
const nested = open ? (x: number): number => x : (y: string) => y as string;
const yields = function* (): Generator<unknown> { const got: string = yield open as string; };
label: for (;;) break label;
function afterReturn(): unknown { return open as unknown as string
  ;
}
const ünïcødé: string = "ä" as "ä" | "𝒜"; const behind: number = 1;
export default (wide as unknown) as typeof wide;
export { ambient as alias, type Shape, wide, returning };
