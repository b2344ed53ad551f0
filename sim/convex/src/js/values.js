// `convex/values`: validators with their JSON form, and ConvexError.

class Validator {
  constructor(kind, json, isOptional = "required") {
    this.kind = kind;
    this.json = json;
    this.isOptional = isOptional;
    this.isConvexValidator = true;
  }
}

const plain = (kind, json) => Object.freeze(new Validator(kind, json));

function fieldOf(validator, where) {
  if (validator?.isConvexValidator !== true) throw new Error(`${where} is not a validator`);
  return { fieldType: validator.json, optional: validator.isOptional === "optional" };
}

function jsonOf(validator, where) {
  const field = fieldOf(validator, where);
  if (field.optional) throw new Error(`${where} may not be optional`);
  return field.fieldType;
}

function object(fields) {
  const value = {};
  for (const [name, field] of Object.entries(fields)) value[name] = fieldOf(field, `field ${name} of v.object()`);
  const validator = new Validator("object", { type: "object", value });
  validator.fields = fields;
  validator.extend = (more) => object({ ...fields, ...more });
  validator.partial = () => object(Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, v.optional(field)])));
  validator.omit = (...names) => object(Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name))));
  validator.pick = (...names) => object(Object.fromEntries(Object.entries(fields).filter(([name]) => names.includes(name))));
  return validator;
}

export const v = {
  any: () => plain("any", { type: "any" }),
  null: () => plain("null", { type: "null" }),
  number: () => plain("float64", { type: "number" }),
  float64: () => plain("float64", { type: "number" }),
  bigint: () => plain("int64", { type: "bigint" }),
  int64: () => plain("int64", { type: "bigint" }),
  boolean: () => plain("boolean", { type: "boolean" }),
  string: () => plain("string", { type: "string" }),
  bytes: () => plain("bytes", { type: "bytes" }),
  literal: (value) => Object.assign(new Validator("literal", { type: "literal", value }), { value }),
  id: (tableName) => Object.assign(new Validator("id", { type: "id", tableName }), { tableName }),
  array: (element) =>
    Object.assign(new Validator("array", { type: "array", value: jsonOf(element, "the element of v.array()") }), { element }),
  object,
  record: (keys, values) =>
    new Validator("record", {
      type: "record",
      keys: jsonOf(keys, "the key of v.record()"),
      values: { fieldType: jsonOf(values, "the value of v.record()"), optional: false },
    }),
  union: (...members) =>
    Object.assign(
      new Validator("union", { type: "union", value: members.map((member) => jsonOf(member, "a member of v.union()")) }),
      { members },
    ),
  nullable: (member) => v.union(member, v.null()),
  optional: (inner) =>
    Object.assign(Object.create(Validator.prototype), inner, { isOptional: "optional" }),
};

/** Validators given as an object of fields stand for `v.object()` of them. */
export function asObjectValidator(given) {
  return given?.isConvexValidator === true ? given : object(given);
}

export class ConvexError extends Error {
  name = "ConvexError";
  constructor(data) {
    super(typeof data === "string" ? data : JSON.stringify(data, (_, value) => (typeof value === "bigint" ? `${value}n` : value)));
    this.data = data;
    this[Symbol.for("ConvexError")] = true;
  }
}
