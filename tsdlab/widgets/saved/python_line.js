// The line of Python that shows a view again: `State.call` of widgets/state.py.

/** @param call such as "tsdlab.explore(model, dataset"; @param fields, usual the values of the state, and their defaults */
export function pythonLine(call, fields, usual) {
  const changed = Object.entries(fields).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(usual[name]));
  return `${[call, ...changed.map(([name, value]) => `${name}=${literal(value)}`)].join(", ")})`;
}

function literal(value) {
  if (value === null) return "None";
  if (!Array.isArray(value)) return JSON.stringify(value);
  return `(${value.map(literal).join(", ")}${value.length === 1 ? "," : ""})`;
}
