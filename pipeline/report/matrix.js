// The confusion matrix: one tab stop, arrow keys from error to error, and back from their images.
"use strict";
(() => {
  const REACH = 14; // pixels around a small cell that are taken for it
  const OF = "confusion-of-";
  const links = [...document.querySelectorAll(`svg a[id^="${OF}"]`)];
  if (links.length === 0) return;
  const svg = links[0].closest("svg");
  const place = (link) => link.id.slice(OF.length).split("-").map(Number); // row, column
  const target = (link) => link.getAttribute("href") ?? link.getAttribute("xlink:href");
  const images = (link) => document.getElementById(target(link).slice(1));
  const linkOf = (cell) =>
    document.getElementById(cell.querySelector(".tiles").id.replace("confusion-", OF));
  const said = document.createElement("p");
  said.className = "pointed";
  said.setAttribute("aria-hidden", "true");
  svg.closest("figure").append(said);
  let from = null; // the link that led to the images

  function stopAt(link) {
    for (const other of links) other.setAttribute("tabindex", other === link ? "0" : "-1");
  }

  function point(link) {
    for (const other of links) other.classList.toggle("near", other === link);
    said.textContent = link?.getAttribute("aria-label") ?? "";
  }

  function enter(link) {
    from = link;
    const list = images(link);
    for (let at = list.closest("details"); at; at = at.parentElement.closest("details"))
      at.open = true;
    list.querySelector(".shot").focus();
    list.closest(".cell").scrollIntoView({ block: "nearest" });
  }

  function leave(cell) {
    const link = from && images(from) === cell.querySelector(".tiles") ? from : linkOf(cell);
    if (links.includes(link)) stopAt(link);
    link.focus();
    link.scrollIntoView({ block: "center" });
  }

  // Up and down: the nearest error of the rows above or below.
  function vertical(link, step) {
    const [row, column] = place(link);
    const away = (other) => Math.abs(place(other)[1] - column) + Math.abs(place(other)[0] - row);
    const beyond = links.filter((other) => step * (place(other)[0] - row) > 0);
    return beyond.sort((a, b) => away(a) - away(b))[0];
  }

  function nearest(event) {
    let best = null;
    let least = REACH;
    for (const link of links) {
      const { left, right, top, bottom } = link.getBoundingClientRect();
      const x = event.clientX - (left + right) / 2;
      const distance = Math.hypot(x, event.clientY - (top + bottom) / 2);
      if (distance < least) [best, least] = [link, distance];
    }
    return event.target.closest?.("a") ?? best;
  }

  stopAt(links[0]);
  for (const link of document.querySelectorAll('a[id^="confusion-of-"], td a[href^="#confusion-"]'))
    link.addEventListener("click", () => setTimeout(() => enter(link)));
  for (const [number, link] of links.entries()) {
    link.addEventListener("focus", () => {
      stopAt(link);
      point(link);
    });
    link.addEventListener("blur", () => point(null));
    link.addEventListener("keydown", (event) => {
      const next = {
        ArrowRight: links[number + 1],
        ArrowLeft: links[number - 1],
        ArrowDown: vertical(link, 1),
        ArrowUp: vertical(link, -1),
      };
      if (!(event.key in next)) return;
      event.preventDefault();
      next[event.key]?.focus();
    });
  }
  svg.addEventListener("pointermove", (event) => point(nearest(event)));
  svg.addEventListener("pointerleave", () => point(null));
  svg.addEventListener("click", (event) => {
    const link = nearest(event);
    if (!link || event.target.closest("a")) return;
    location.hash = images(link).id;
    setTimeout(() => enter(link));
  });
  for (const cell of document.querySelectorAll(".cell")) {
    cell.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave(cell);
    });
    cell.querySelector(`a[href^="#${OF}"]`).addEventListener("click", () =>
      setTimeout(() => leave(cell)));
  }
  window.addEventListener("hashchange", (event) => {
    const left = document.getElementById(decodeURIComponent(new URL(event.oldURL).hash.slice(1)));
    if (location.hash === "" && left?.closest(".cell")) leave(left.closest(".cell"));
  });
})();
