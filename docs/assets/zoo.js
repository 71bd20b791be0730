// Filters and sorts the table of checkpoints in model_zoo.md.
"use strict";

const number = (text) => parseFloat(text.replace("–", "-Infinity"));
const unique = (rows, index) => [...new Set(rows.map((x) => x.cells[index].textContent))].sort();

function labeled(text, element) {
  const label = document.createElement("label");
  label.append(text + " ", element);
  return label;
}

function choice(values) {
  const select = document.createElement("select");
  select.append(new Option("all", ""), ...values.map((x) => new Option(x, x)));
  return select;
}

function input(type, hint) {
  const element = document.createElement("input");
  Object.assign(element, { type, placeholder: hint });
  return element;
}

function sortBy(body, rows, index, ascending) {
  const value = (row) => row.cells[index].textContent;
  const isNumber = rows.some((row) => !Number.isNaN(parseFloat(value(row)))) &&
    rows.every((row) => /^[\d–]/.test(value(row)));
  const compare = isNumber
    ? (a, b) => number(value(a)) - number(value(b)) || 0
    : (a, b) => (value(a) < value(b) ? -1 : 1);
  rows.sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
  body.append(...rows);
}

function enhance(zoo) {
  const table = zoo.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const index = (name) => heads.findIndex((x) => x.textContent === name);

  const name = input("search", "tiny, v2, 384, …");
  const task = choice(unique(rows, index("task")));
  const license = choice(unique(rows, index("license")));
  const macs = input("number", "any");
  const parameters = input("number", "any");
  const speed = input("number", "any");
  const count = document.createElement("output");
  const controls = document.createElement("form");
  controls.append(
    labeled("Name", name),
    labeled("Task", task),
    labeled("License", license),
    labeled("GMACs up to", macs),
    labeled("M params up to", parameters),
    labeled("Images/s from", speed),
    count,
  );
  zoo.prepend(controls);

  function filter() {
    const words = name.value.toLowerCase().split(/\s+/);
    const value = (row, column) => number(row.cells[index(column)].textContent);
    const most = (row, column, limit) =>
      !limit.value || value(row, column) <= Number(limit.value);
    const least = (row, column, limit) =>
      !limit.value || value(row, column) >= Number(limit.value);
    for (const row of rows) {
      const text = row.cells[0].textContent;
      row.hidden = !(
        words.every((x) => text.includes(x)) &&
        [["task", task], ["license", license]].every(
          ([column, select]) =>
            !select.value || row.cells[index(column)].textContent === select.value,
        ) &&
        most(row, "GMACs", macs) &&
        most(row, "M params", parameters) &&
        least(row, "images/s", speed)
      );
    }
    count.textContent = `${rows.filter((x) => !x.hidden).length} of ${rows.length}`;
  }

  controls.addEventListener("input", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      // Large numbers first, names from A to Z.
      const ascending = head.ariaSort ? head.ariaSort === "descending" : column < 2;
      heads.forEach((x) => x.removeAttribute("aria-sort"));
      head.ariaSort = ascending ? "ascending" : "descending";
      sortBy(body, rows, column, ascending);
    });
  });
  filter();
}

document.querySelectorAll(".zoo").forEach(enhance);
