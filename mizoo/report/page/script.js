"use strict";

// The map of one encoder: dots on a canvas; the picture of the nearest one is shown where the pointer is.
function showMap(box) {
  const data = JSON.parse(box.querySelector("script").textContent);
  const colours = JSON.parse(box.dataset.colours);
  const canvas = box.querySelector("canvas"), card = box.querySelector(".card");
  const picture = card.querySelector("i"), text = card.querySelector("span");
  const bytes = Uint8Array.from(atob(data.place), (each) => each.charCodeAt(0));
  const place = new Uint16Array(bytes.buffer);
  const count = place.length / 2, margin = 28;
  const context = canvas.getContext("2d");
  let chosen = -1, near = -1;

  const x = (i) => margin + (place[2 * i] / 65535) * (canvas.width - 2 * margin);
  const y = (i) => margin + (1 - place[2 * i + 1] / 65535) * (canvas.height - 2 * margin);

  function draw() {
    const small = canvas.clientWidth < 600, radius = small ? 7 : 5;
    const style = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < count; i++) {
      const label = data.labels.length ? data.labels[i] : -1;
      context.globalAlpha = chosen < 0 ? 0.75 : label === chosen ? 0.95 : 0.09;
      context.fillStyle = label < 0 ? style.getPropertyValue("--accent") : colours[label];
      context.beginPath();
      context.arc(x(i), y(i), radius, 0, 2 * Math.PI);
      context.fill();
    }
    if (near >= 0) {
      context.globalAlpha = 1;
      context.lineWidth = 3;
      context.strokeStyle = style.getPropertyValue("--ink");
      context.beginPath();
      context.arc(x(near), y(near), radius + 4, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function show(i) {
    near = i;
    card.hidden = i < 0;
    if (i >= 0) {
      picture.style.setProperty("--x", i % data.columns);
      picture.style.setProperty("--y", Math.floor(i / data.columns));
      const label = data.labels.length ? data.labels[i] : -1;
      text.textContent = label < 0 ? "" : data.classes[label];
      if (label >= 0 && data.taken[i] !== label) text.textContent += ", taken for " + data.classes[data.taken[i]];
      const scale = canvas.clientWidth / canvas.width, left = x(i) * scale, top = y(i) * scale;
      card.style.left = Math.max(0, Math.min(left + 14, canvas.clientWidth - 130)) + "px";
      card.style.top = (top > canvas.clientHeight / 2 ? Math.max(0, top - 190) : top + 14) + "px";
      card.dataset.index = i;
    }
    draw();
  }

  function point(event) {
    const edge = canvas.getBoundingClientRect(), scale = canvas.width / edge.width;
    const px = (event.clientX - edge.left) * scale, py = (event.clientY - edge.top) * scale;
    let best = -1, least = (24 * scale) ** 2;
    for (let i = 0; i < count; i++) {
      if (chosen >= 0 && data.labels[i] !== chosen) continue;
      const distance = (x(i) - px) ** 2 + (y(i) - py) ** 2;
      if (distance < least) { least = distance; best = i; }
    }
    if (best !== near) show(best);
  }

  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(-1); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") show(-1);
    if (step) { event.preventDefault(); show((near + step + count) % count); }
  });
  const legend = box.nextElementSibling;
  legend.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const label = Number(button.dataset.class);
    chosen = chosen === label ? -1 : label;
    for (const each of legend.querySelectorAll("button")) {
      each.setAttribute("aria-pressed", String(Number(each.dataset.class) === chosen));
    }
    show(-1);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("resize", () => show(-1));
  draw();
}

// The table of results: filters by choice and by text, sorts by a click on a head.
function showTable(table) {
  const body = table.tBodies[0], lines = [...body.rows];
  const filters = [...document.querySelectorAll("[data-filter]")], search = document.getElementById("search");
  const heads = [...table.tHead.rows[0].cells];

  function filter() {
    const words = search.value.trim().toLowerCase();
    let shown = 0;
    for (const line of lines) {
      const fits = filters.every((each) => !each.value || line.dataset[each.dataset.filter] === each.value)
        && (!words || line.cells[0].textContent.toLowerCase().includes(words));
      line.hidden = !fits;
      shown += fits;
    }
    heads.forEach((head, i) => {  // a published column without a number among these lines says nothing
      if (!head.classList.contains("published")) return;
      const empty = !lines.some((line) => !line.hidden && line.cells[i].textContent);
      head.hidden = empty;
      for (const line of lines) line.cells[i].hidden = empty;
    });
    document.getElementById("count").textContent = shown + " of " + lines.length;
  }

  function value(line, i) {
    const cell = line.cells[i], number = Number(cell.dataset.sort);
    return cell.dataset.sort !== undefined && !Number.isNaN(number) ? number : cell.textContent.trim();
  }

  function sort(i, descending) {
    heads.forEach((head, j) => head.setAttribute("aria-sort", j !== i ? "none" : descending ? "descending" : "ascending"));
    lines.sort((a, b) => {
      const one = value(a, i), two = value(b, i);
      const order = typeof one === "number" && typeof two === "number" ? one - two : String(one).localeCompare(String(two));
      return descending ? -order : order;
    });
    body.append(...lines);
  }

  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    const numeric = lines.some((line) => typeof value(line, i) === "number");
    const now = head.getAttribute("aria-sort");
    sort(i, now === "none" ? numeric : now === "ascending");
  }));
  for (const each of filters) each.addEventListener("change", filter);
  search.addEventListener("input", filter);
  sort(heads.findIndex((head) => head.textContent.startsWith("value")), true);
  filter();
}

for (const box of document.querySelectorAll(".map")) showMap(box);
const results = document.getElementById("results");
if (results) showTable(results);
