// What the fields of a state may be: the rules of widgets/state.py, as that file tells them.

const quoted = (value) => (typeof value === "string" ? `'${value}'` : JSON.stringify(value) ?? String(value));
const listed = (values) => values.map(quoted).join(", ");

const CHECKS = {
  one_of: ({ one_of: allowed, optional }, value) =>
    (allowed.includes(value) || (optional && value === null) ? null : `${optional ? "None or " : ""}one of ${listed(allowed)}`),
  some_of: ({ some_of: allowed }, value) =>
    (Array.isArray(value) && value.every((entry) => allowed.includes(entry)) ? null : `a list of some of ${listed(allowed)}`),
  number: ({ number: [low, high] }, value) =>
    (typeof value === "number" && value >= low && value <= high ? null : `a number in ${low}…${high}`),
};

/** Why a field cannot have a value; null if it can. */
export function refusalBy(rule, name, value) {
  const [kind] = Object.keys(rule);
  const wanted = CHECKS[kind](rule, value);
  return wanted && `${name} must be ${wanted}; got ${quoted(value)}`;
}
