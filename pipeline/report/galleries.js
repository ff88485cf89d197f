// A dialog over the galleries: images larger, labels by hand, corrections.csv. Nothing is sent.
"use strict";
(() => {
  const MOST_BUTTONS = 12;
  const KEYS = "1234567890";
  const byId = (id) => document.getElementById(id);
  const shots = [...document.querySelectorAll(".shot")];
  // Ids and classes are kept as JSON: what a browser can't show stays exact.
  const names = new Map(
    [...byId("classes").options].map((option) => [option.dataset.class, option.value]),
  ); // class → what is shown of its name
  const classes = [...names.keys()];
  const chosen = new Map(); // id → class, "" for none of them
  const dialog = byId("choose");
  const tray = document.querySelector(".tray");
  const pictures = new Map([...byId("pictures").children].map((part) => [part.dataset.id, part]));
  // Classes of one character are keys themselves; the first ten of others are numbered.
  const oneKey = [...names.values()].every((shown) => shown.length === 1);
  let current = null;
  let saved = true;

  const chances = (shot) => [...shot.nextElementSibling.querySelectorAll(".chance")];

  function offered(shot) {
    if (classes.length <= MOST_BUTTONS) return classes;
    return chances(shot).map((chance) => chance.dataset.class);
  }

  function classButton(name, number) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "press";
    button.setAttribute("aria-pressed", String(chosen.get(current.dataset.id) === name));
    if (!oneKey && number < KEYS.length) {
      const key = document.createElement("kbd");
      key.textContent = KEYS[number];
      key.setAttribute("aria-hidden", "true");
      button.append(key);
    }
    button.append(names.get(name));
    button.addEventListener("click", () => choose(name));
    return button;
  }

  const inGallery = (shot) => [...shot.closest("ul").querySelectorAll(".shot")];
  // Of test images nothing is learnt, so they take no answers.
  const isFixed = (shot) => shot.closest("ul").hasAttribute("data-fixed");

  function showImage(shot) {
    const small = shot.querySelector("img");
    const picture = pictures.get(shot.dataset.id);
    const large = byId("choose-image");
    large.src = picture?.dataset.picture ?? small.src;
    large.alt = small.alt;
    const wide = shot.closest("ul").hasAttribute("data-wide");
    dialog.toggleAttribute("data-large", wide || picture !== undefined);
    const isWhole = picture?.hasAttribute("data-whole") ?? false;
    byId("choose-crop").hidden = !isWhole;
    byId("choose-crop").querySelector("img").src = isWhole ? small.src : "data:,";
    const [name, caption] = [".who", ".cap"].map(
      (part) => shot.parentElement.querySelector(part).textContent,
    );
    byId("choose-name").textContent = `${name}: ${caption}`;
  }

  function show(shot) {
    current = shot;
    const gallery = inGallery(shot);
    const fixed = isFixed(shot);
    const number = `${gallery.indexOf(shot) + 1} of ${gallery.length}`;
    byId("choose-title").textContent = fixed ? `Image ${number}` : `What is it? (${number})`;
    showImage(shot);
    byId("choose-answers").hidden = fixed;
    byId("choose-chances").replaceChildren(...chances(shot).map((part) => part.cloneNode(true)));
    byId("choose-classes").replaceChildren(...offered(shot).map(classButton));
    byId("choose-more").hidden = classes.length <= MOST_BUTTONS;
    byId("choose-more").style.display = byId("choose-more").hidden ? "none" : "";
    byId("choose-other").value = "";
    byId("choose-other").setCustomValidity("");
    byId("choose-none").setAttribute("aria-pressed", String(chosen.get(shot.dataset.id) === ""));
    if (!dialog.open) dialog.showModal();
    byId("choose-title").focus();
  }

  function neighbour(shot, step) {
    const gallery = inGallery(shot);
    return gallery[gallery.indexOf(shot) + step];
  }

  function go(step) {
    const next = neighbour(current, step);
    if (next) show(next);
    else if (step > 0 && !isFixed(current)) dialog.close();
  }

  function choose(name) {
    const id = current.dataset.id;
    if (name === null) chosen.delete(id);
    else chosen.set(id, name);
    saved = false;
    for (const shot of shots.filter((other) => other.dataset.id === id)) mark(shot, name);
    tray.hidden = false;
    count();
    go(1);
  }

  function mark(shot, name) {
    const said = shot.querySelector(".said");
    said.hidden = name === null;
    said.textContent = name === null ? "" : `you: ${names.get(name) ?? "none of them"}`;
    shot.toggleAttribute("data-chosen", name !== null);
  }

  function count() {
    const number = chosen.size;
    byId("count").textContent = `${number} ${number === 1 ? "image" : "images"} labelled by you`;
    byId("save").disabled = number === 0;
  }

  // As pipeline/files.py has it: what a spreadsheet would take for a formula gets a quote before it.
  const plain = (text) => (/^[=+\-@＝＋－＠\t\r\n']/.test(text) ? `'${text}` : text);
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (json) => quoted(plain(JSON.parse(json || '""')));

  function save() {
    const lines = [...chosen].map(([id, name]) => `${cell(id)},${cell(name)}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["id,label\n", ...lines], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    saved = true;
  }

  function takeOther() {
    const field = byId("choose-other");
    const name = classes.find((other) => names.get(other) === field.value);
    field.setCustomValidity(name ? "" : "No class of this data set");
    if (name) choose(name);
    else field.reportValidity();
  }

  function keepInView(tile) {
    const tip = tile.querySelector(".tip");
    tip.style.setProperty("--shift", "0px");
    tile.removeAttribute("data-up");
    const { left, right, bottom } = tip.getBoundingClientRect();
    const page = tile.closest("main").getBoundingClientRect(); // which cuts what lies beside it
    const [least, most] = [page.left + 8, page.right - 8];
    const shift = left < least ? least - left : right > most ? most - right : 0;
    tip.style.setProperty("--shift", `${shift}px`);
    tile.toggleAttribute("data-up", bottom > window.innerHeight);
  }

  for (const shot of shots) {
    const tile = shot.parentElement;
    shot.addEventListener("click", () => show(shot));
    shot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) neighbour(shot, step)?.focus();
    });
    tile.addEventListener("pointerenter", () => keepInView(tile));
    tile.addEventListener("focusin", () => keepInView(tile));
    tile.addEventListener("pointerleave", () => tile.removeAttribute("data-hushed"));
    tile.addEventListener("focusout", () => tile.removeAttribute("data-hushed"));
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const tiles = document.querySelectorAll(".tile:hover, .tile:focus-within");
      for (const tile of tiles) tile.setAttribute("data-hushed", "");
    }
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === byId("choose-other")) {
      if (event.key === "Enter") {
        event.preventDefault();
        takeOther();
      }
      return;
    }
    const buttons = offered(current);
    const typed = JSON.stringify(event.key);
    if (event.key === "ArrowRight") go(1);
    else if (event.key === "ArrowLeft") go(-1);
    else if (isFixed(current)) return;
    else if (event.key === "Delete") choose("");
    else if (oneKey && buttons.includes(typed)) choose(typed);
    else if (!oneKey && KEYS.includes(event.key) && KEYS.indexOf(event.key) < buttons.length)
      choose(buttons[KEYS.indexOf(event.key)]);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => current.focus());
  byId("choose-none").addEventListener("click", () => choose(""));
  byId("choose-clear").addEventListener("click", () => choose(null));
  byId("choose-take").addEventListener("click", takeOther);
  byId("choose-back").addEventListener("click", () => go(-1));
  byId("choose-next").addEventListener("click", () => go(1));
  byId("choose-done").addEventListener("click", () => dialog.close());
  byId("save")?.addEventListener("click", save);
  window.addEventListener("beforeunload", (event) => {
    if (!saved && chosen.size > 0) event.preventDefault();
  });
})();
