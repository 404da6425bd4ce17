/* Tables of class "sortable": a press on a heading sorts by its column, a second one the other way round. */
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const number = (text) => {
    const value = parseFloat(text.replace(/[, ]/g, "").replace("−", "-"));
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
  for (const box of document.querySelectorAll(".pst-scrollable-table-container, div.cell_output .text_html, .rfx-scroll"))
    if (box.querySelector("table")) hint(box, "table");
  /* On a phone the panels of a figure stand one below the other: each a window onto the one drawing. */
  function apart(image) {
    let last = image;
    const [[width], ...panels] = image.dataset.panels.split(";").map((part) => part.split(" ").map(Number));
    panels.forEach(([x, y, w, h], i) => {
      const panel = Object.assign(document.createElement("span"), { className: "panel" });
      const view = Object.assign(document.createElement("img"), { src: image.src, alt: i ? "" : image.alt });
      const share = (part, whole) => `${(100 * part) / whole}%`;
      Object.assign(panel.style, { width: `${1.6 * w}px`, aspectRatio: `${w} / ${h}` });
      Object.assign(view.style, { width: share(width, w), left: share(-x, w), top: share(-y, h) });
      panel.append(view);
      last.after(panel);
      last = panel;
    });
    image.classList.add("apart");
  }
  window.addEventListener("load", () => {
    const phone = window.matchMedia("(max-width: 768px)").matches;
    const figures = [...document.querySelectorAll('div.cell_output img[src$=".svg"]')];
    for (const image of phone ? figures : []) {
      if (image.dataset.panels) apart(image);
      else image.style.width = image.naturalWidth < 520 ? "100%" : "480px"; // one panel fits, a grid of them scrolls
    }
    for (const image of figures) hint(image.closest("figure, .output, .cell_output"), "figure");
  });
});
