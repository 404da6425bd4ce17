/* Tables of class "sortable": a press on a heading sorts by its column, a second one the other way round. */
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const number = (text) => {
    const value = parseFloat(text.replace(/[, ]/g, ""));
    return text.startsWith("all") ? Infinity : Number.isNaN(value) ? null : value;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending", sign = down ? -1 : 1;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].textContent.trim();
        const numeric = [...body.rows].some((row) => number(key(row)) !== null);
        const rows = [...body.rows].sort((a, b) => {
          if (!numeric) return sign * key(a).localeCompare(key(b));
          const [first, second] = [number(key(a)), number(key(b))];
          if (first === null || second === null) return (first === null) - (second === null); // nothing goes last
          return first === second ? 0 : sign * (first - second);
        });
        body.append(...rows);
      });
    });
  }
  /* What is wider than its column says so: tables, and on a phone figures, which have their width once they are loaded. */
  function hint(box, what) {
    if (box.scrollWidth <= box.clientWidth + 2 || box.previousElementSibling?.className === "scroll-hint") return;
    box.tabIndex = 0; // the keyboard scrolls it too
    box.before(Object.assign(document.createElement("p"), { className: "scroll-hint", textContent: `The ${what} scrolls sideways →` }));
  }
  for (const box of document.querySelectorAll(".pst-scrollable-table-container, div.cell_output .text_html"))
    if (box.querySelector("table")) hint(box, "table");
  window.addEventListener("load", () => {
    for (const image of document.querySelectorAll('div.cell_output img[src$=".svg"]')) hint(image.closest("figure, .output, .cell_output"), "figure");
  });
});
