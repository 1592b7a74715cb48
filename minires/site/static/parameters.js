// Fields for the settings of a program, in the way of Colab's forms: the program stays the only place where they are.
//
//     DEPTH = 8  # @param {type: "slider", min: 8, max: 32, step: 6}
//     NETWORK = "plain"  # @param ["plain", "residual"]
//     EPOCHS = 3  # @param {type: "integer"}

const LINE = /^(?<name>[A-Z][A-Z0-9_]*) = (?<value>.*?)\s+# @param (?<kind>\[.*\]|\{.*\})\s*$/;

export function parameters(text) {
  const found = [];
  text.split("\n").forEach((line, index) => {
    const match = LINE.exec(line);
    if (match) found.push({ line: index, ...match.groups, kind: parseKind(match.groups.kind) });
  });
  return found.filter((parameter) => parameter.kind);
}

function parseKind(text) {
  try {
    const kind = JSON.parse(text.replace(/([{,]\s*)(\w+):/g, '$1"$2":'));
    return Array.isArray(kind) ? { type: "choice", choices: kind } : kind;
  } catch {
    return null;
  }
}

// The program with another value for one of its parameters.
export function withValue(text, parameter, value) {
  const lines = text.split("\n");
  lines[parameter.line] = lines[parameter.line].replace(`= ${parameter.value}`, () => `= ${value}`);
  return lines.join("\n");
}

// Fills `form` with a field for each parameter of the text; changed(parameter, value) gets Python's spelling of a value.
export function showFields(form, text, changed) {
  form.replaceChildren(...parameters(text).map((parameter) => field(parameter, changed)));
  form.hidden = !form.childElementCount;
}

function field(parameter, changed) {
  const label = document.createElement("label");
  const name = parameter.name.toLowerCase().replaceAll("_", " ");
  label.append(name, input(parameter, (value) => changed(parameter, value)));
  return label;
}

function input({ value, kind }, changed) {
  if (kind.type === "choice") {
    const select = document.createElement("select");
    for (const choice of kind.choices) {
      const python = typeof choice === "string" ? JSON.stringify(choice) : String(choice);
      select.append(new Option(String(choice), python, false, python === value));
    }
    select.onchange = () => changed(select.value);
    return select;
  }
  const box = document.createElement("input");
  if (kind.type === "boolean") {
    Object.assign(box, { type: "checkbox", checked: value === "True" });
    box.onchange = () => changed(box.checked ? "True" : "False");
  } else if (kind.type === "string") {
    Object.assign(box, { type: "text", value: value.replace(/^["']|["']$/g, "") });
    box.onchange = () => changed(JSON.stringify(box.value));
  } else {
    const { min, max, step } = kind;
    Object.assign(box, { type: "number", min, max, step: step ?? (kind.type === "integer" ? 1 : "any"), value });
    box.onchange = () => box.checkValidity() && box.value !== "" && changed(box.value);
  }
  return box;
}
