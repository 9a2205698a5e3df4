"use strict";

const words = new Intl.Collator();

// Numbers come before text, and what is missing last, in either direction.
function rank(cell) {
  return cell.classList.contains("missing") ? 2 : cell.dataset.value ? 0 : 1;
}

function compare(one, two, sign) {
  if (rank(one) !== rank(two)) return rank(one) - rank(two);
  if (rank(one) === 0) return sign * (one.dataset.value - two.dataset.value || 0);
  return rank(one) === 1 ? sign * words.compare(one.textContent, two.textContent) : 0;
}

// A heading sorts its table; used again, it turns the order round. Equal rows keep
// the order that they had.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const column = heading.cellIndex;
    const sign = heading.ariaSort === "ascending" ? -1 : 1;
    for (const each of heading.parentNode.cells) each.ariaSort = "none";
    heading.ariaSort = sign === 1 ? "ascending" : "descending";
    const body = heading.closest("table").tBodies[0];
    const rows = [...body.rows];
    body.append(...rows.sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
  });
}

// Where the browser lets a page copy, a button does it.
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = "Copied";
  });
}
