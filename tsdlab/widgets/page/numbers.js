// Numbers as text, and axes.

/** With `digits` decimals; a dash for a missing number. */
export const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export const percent = (value) => `${(100 * value).toFixed(1)} %`;

/** With about three significant digits; a dash for a missing number. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toFixed(digits).replace("-", "−");
}

/** The entry of `list` that is `by` places after `value`; the first one comes after the last one. */
export const after = (list, value, by = 1) => list[(list.indexOf(value) + by + list.length) % list.length];

/** About as many round numbers from `low` to `high` as asked for, as [number, text]. */
export function ticks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step / power === 2.5 ? 1 : 0));
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) {
    found.push([i * step, (i * step).toFixed(digits).replace(/^-0(\.0*)?$/, "0").replace("-", "−")]);
  }
  return found;
}

/** A function from numbers in low…high to places in start…end. */
export function scale([low, high], start, end) {
  return (value) => start + ((value - low) / (high - low)) * (end - start);
}
