(() => {
  const body = document.querySelector("#all tbody");
  const heads = [...document.querySelectorAll("#all th[data-k]")];
  /* Numbers stand in `data-v`, which is empty where there is none: those rows come last. */
  const key = ({ dataset, textContent }) => ("v" in dataset ? parseFloat(dataset.v) : textContent);
  heads.forEach((head) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const none = (a) => a !== a;
      const order = (a, b) => none(a) - none(b) || (a < b ? -sign : a > b ? sign : 0);
      const rows = [...body.rows].map((row) => [key(row.cells[head.cellIndex]), row]);
      body.append(...rows.sort((a, b) => order(a[0], b[0])).map((pair) => pair[1]));
    };
  });
  const open = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target?.tagName === "DETAILS") {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
})();
