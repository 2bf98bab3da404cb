
"use strict";
(() => {
  const once = (make) => { let made; return () => (made ??= make()); };
  const data = once(() => JSON.parse(document.getElementById("data").textContent));
  const names = new Intl.Collator("en", { numeric: true });

  /** Make an element; texts are set as text, never read as HTML. */
  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // ---- sorting: within each data set, means last, empty cells after numbers
  function valueOf(cell) {
    const button = cell.querySelector("button[value]");
    if (button) return data().tables[cell.closest("table").dataset.table].cells[button.value][1];
    const text = cell.textContent.replace("−", "-").replace(/^[<[(]\s*/, "");
    return cell.tagName === "TH" || Number.isNaN(parseFloat(text)) ? text : parseFloat(text);
  }

  const compare = (x, y) => (typeof x === "number" && typeof y === "number" ? x - y : names.compare(x, y));

  const original = once(() => {
    const rows = [...document.querySelectorAll("table.numbers tbody tr")];
    return new Map(rows.map((row, i) => [row, i]));
  });

  function sort(head) {
    const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    if (next) head.setAttribute("aria-sort", next);
    for (const body of head.closest("table").tBodies) {
      const rows = [...body.rows].sort((a, b) => original().get(a) - original().get(b));
      body.append(...(next ? sorted(rows, head.cellIndex, next === "descending" ? -1 : 1) : rows));
    }
  }

  function sorted(rows, column, sign) {
    const isName = (row) => row.className === "group";
    const values = new Map(rows.map((row) => [row, isName(row) ? "" : valueOf(row.cells[column])]));
    const rank = (row) => (isName(row) ? 0 : 1 + 2 * (row.className === "mean") + (values.get(row) === "–"));
    return rows.sort((a, b) => rank(a) - rank(b) || sign * compare(values.get(a), values.get(b)));
  }

  // ---- what is behind a number
  const at = (column, run) => column.values[column.of ? column.of[run] : 0];

  const valuesOf = (() => {
    const known = new Map();
    return (key) => {
      if (!known.has(key)) {
        const found = data().values[key] ?? { at: [], values: [] };
        known.set(key, new Map(found.values.map((value, i) => [found.at ? found.at[i] : i, value])));
      }
      return known.get(key);
    };
  })();

  /** Return the cells that are compared with one: those of its row, or of its data set, category and column. */
  function rivals(table, index) {
    const width = table.heads.length;
    const [dataset, category] = table.rows[Math.floor(index / width)];
    const isRival = (i) => {
      const [otherDataset, otherCategory] = table.rows[Math.floor(i / width)];
      return i % width === index % width && otherDataset === dataset && otherCategory === category;
    };
    const inRow = (i) => Math.floor(i / width) === Math.floor(index / width);
    return [...table.cells.keys()].filter((i) => table.cells[i] && (table.down ? isRival(i) : inRow(i)));
  }

  const fixed = (value, digits) => value?.toFixed(digits) ?? "–";
  const small = (p) => (p === null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3));
  const text = (content, kind = "") => make("td", { className: `text ${kind}` }, ...[content].flat());
  const value = (content) => make("td", { className: "value" }, ...[content].flat());

  /** Return a table with a name for those who do not see it; heads of texts stand on the left, as their cells do. */
  function grid(kind, name, heads, rows) {
    const cells = heads.map((title, i) => make("th", { scope: "col", className: rows[0].cells[i].className }, title));
    const top = make("thead", {}, make("tr", {}, ...cells));
    const table = make("table", { className: kind }, top, make("tbody", {}, ...rows));
    table.setAttribute("aria-label", name);
    return make("div", { className: "wide" }, table);
  }

  const unitName = (runs) => (runs.every((run) => at(data().runs.fold, run)) ? "Seed.fold" : "Seed");

  function runTable(runs, values, digits) {
    const { unit, category, name, id } = data().runs;
    const rows = runs.map((run) => make("tr", {}, text(at(unit, run)), text(at(category, run), "category"),
      value(fixed(values.get(run), digits)), text([name[run], make("code", {}, id[run])])));
    return grid("runs", "Runs behind the number", [unitName(runs), "Category", "Value", "Run"], rows);
  }

  /** Return the mean over the categories of each seed or fold that has them all. */
  function unitTable(runs, values, digits) {
    const { unit, category } = data().runs;
    const categories = new Set(runs.map((run) => at(category, run))).size;
    const units = Map.groupBy(runs, (run) => at(unit, run));
    const mean = (of) => of.reduce((sum, run) => sum + values.get(run), 0) / of.length;
    const rows = [...units].filter(([, of]) => of.length === categories && of.every((run) => values.has(run)))
      .map(([name, of]) => make("tr", {}, text(name), value(fixed(mean(of), digits)), text(`${of.length} categories`)));
    return rows.length ? grid("units", "Means over the categories", [unitName(runs), "Mean", "Over"], rows) : "";
  }

  function comparison(table, index, digits) {
    const shown = rivals(table, index);
    if (shown.length < 2) return [];
    const extras = table.extras.map((name, i) => [data().extras[name], 7 + i])
      .filter(([, i]) => shown.some((other) => table.cells[other][i] !== null));
    const rows = shown.map((other) => {
      const [label, mean, std, , signs] = table.cells[other];
      const number = [signs & 1 ? make("b", {}, fixed(mean, digits)) : fixed(mean, digits)];
      if (std !== null) number.push(make("span", {}, ` ± ${fixed(std, digits)}`));
      const own = extras.map(([, i]) => value(small(table.cells[other][i])));
      const kind = other === index ? "this" : "";
      return make("tr", { className: kind }, text(data().labels[label]), value(number), ...own);
    });
    const title = make("h3", {}, extras.length ? "Against the best" : "Beside the other methods");
    return [title, grid("rivals", title.textContent, ["Method", "Mean", ...extras.map(([name]) => name)], rows)];
  }

  const breakable = (long) => long.split(/(?<=[_,/])/).flatMap((part) => [part, make("wbr")]);

  /** Return what columns of the runs say of some of them; several values are listed, many are counted. */
  function list(columns, runs) {
    const items = Object.entries(columns).map(([key, column]) => {
      const found = [...new Set(runs.map((run) => at(column, run)))].filter((one) => one !== "");
      const told = found.length > 4 ? `${found.length} values, ${found[0]} to ${found.at(-1)}` : found.join(" · ");
      return told && make("div", {}, make("dt", {}, key), make("dd", {}, ...breakable(told)));
    });
    return make("dl", {}, ...items.filter(Boolean));
  }

  function settings(runs, label) {
    const own = Object.entries(data().settings[label] ?? {}).map(([key, one]) => [key, { values: [one] }]);
    return [
      make("h3", {}, "Settings"), list({ ...Object.fromEntries(own), ...data().runs.facts }, runs),
      make("details", {}, make("summary", {}, "All settings"), list(data().runs.params, runs)),
    ];
  }

  /** Return in words what a cell is. */
  function told([, mean, std, n, signs, unit], digits) {
    const units = n ? `n = ${n} ${unit}${n === 1 ? "" : "s"}` : `no ${unit} has all categories`;
    const spread = std === null ? "" : `sample standard deviation ${fixed(std, digits)}, `;
    return `Mean ${fixed(mean, digits)}, ${spread}${units}.${signs & 1 ? " In bold, as the caption explains." : ""}`;
  }

  function showNumber(button) {
    const place = button.closest("table").dataset.table;
    const table = data().tables[place];
    const [index, column] = [Number(button.value), button.value % table.heads.length];
    const cell = table.cells[index];
    const [label, , , , signs, , group] = cell;
    const [dataset, category] = table.rows[Math.floor(index / table.heads.length)];
    const { unit, name } = data().runs;
    const runs = data().groups[group]
      .toSorted((a, b) => names.compare(at(unit, a), at(unit, b)) || names.compare(name[a], name[b]));
    const values = valuesOf(table.measures[column]);
    const digits = (button.textContent.match(/\.(\d+)/)?.[1].length ?? 0) + 2; // two more than are printed
    const all = runTable(runs, values, digits);
    const folded = { open: runs.length <= 12 };
    const each = signs & 2 ? make("details", folded, make("summary", {}, `All ${runs.length} runs`), all) : all;

    const dialog = document.getElementById("number");
    dialog.classList.toggle("over", (signs & 2) > 0);
    dialog.querySelector("h2").textContent = data().labels[label];
    dialog.querySelector("header p").textContent =
      `${dataset} / ${category}${signs & 2 ? " (over the categories)" : ""} — ${table.title}` +
      (table.down ? `: ${table.heads[column]}` : "");
    document.getElementById("number-body").replaceChildren(
      make("p", { className: "big" }, ...button.cloneNode(true).childNodes),
      make("p", { className: "note" }, told(cell, digits)),
      signs & 2 ? unitTable(runs, values, digits) : "",
      each,
      ...comparison(table, index, digits - 1),
      make("p", { className: "caption" }, document.getElementById(`c-${place}`).textContent),
      ...settings(runs, data().labels[label]));
    open(dialog);
  }

  function open(dialog) {
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  // ---- the page
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const tellTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  dark.addEventListener("change", tellTheme);
  tellTheme();

  const menu = document.getElementById("menu");
  function toggleMenu(isOpen) {
    menu.setAttribute("aria-expanded", String(isOpen));
    menu.closest("nav").classList.toggle("open", isOpen);
  }

  function openAll(button) {
    const tables = [...button.closest("section").querySelectorAll("details.table")];
    const isOpen = tables.some((table) => !table.open);
    for (const table of tables) table.open = isOpen;
    button.firstChild.textContent = isOpen ? "Close all" : "Open all";
  }

  function isBeside(dialog, { clientX, clientY }) {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    return clientX < left || clientX > right || clientY < top || clientY > bottom;
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (event.target.tagName === "DIALOG" && isBeside(event.target, event)) event.target.close();
    if (event.target.closest("#sections a")) toggleMenu(false);
    if (!button) return;
    if (button === theme) { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; tellTheme(); }
    else if (button === menu) toggleMenu(menu.getAttribute("aria-expanded") !== "true");
    else if (button.className === "sort") sort(button.closest("th"));
    else if (button.className === "close") button.closest("dialog").close();
    else if (button.className === "all") openAll(button);
    else if (button.dataset.opens) open(document.getElementById(button.dataset.opens));
    else if (button.value) showNumber(button);
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.getAttribute("aria-expanded") === "true") { toggleMenu(false); menu.focus(); }
  });

  document.addEventListener("scroll", ({ target }) => {
    if (target.className?.startsWith("wide")) target.classList.toggle("scrolled", target.scrollLeft > 0);
  }, { capture: true, passive: true });

  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", reveal);

  const links = new Map([...document.querySelectorAll("#sections a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "location");
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("main details:not([open])")];
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
  reveal();
})();
