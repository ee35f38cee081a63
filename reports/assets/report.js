// Sorting, filtering and copying. Everything on the page is readable without this.
(function () {
  "use strict";
  var all = function (selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); };

  var MOST = 100;  // rows that are laid out until more are asked for: thousands take seconds

  function sortable(table) {
    var body = table.tBodies[0];
    all("th[data-sort]", table.tHead).forEach(function (head) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      button.addEventListener("click", function () { sort(table, body, head); });
    });
  }

  // Best first on the first click; rows without a value stay last either way.
  function sort(table, body, head) {
    var numeric = head.dataset.sort === "number";
    var first = numeric && head.dataset.better !== "lower" ? "descending" : "ascending";
    var now = head.getAttribute("aria-sort");
    var order = now === null ? first : now === "ascending" ? "descending" : "ascending";
    all("th[aria-sort]", table).forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", order);
    var sign = order === "ascending" ? 1 : -1;
    var rows = all("tr", body).map(function (row, place) {
      var cell = row.cells[head.cellIndex];
      var value = numeric ? parseFloat(cell.dataset.value) : cell.textContent.trim().toLowerCase();
      return { row: row, place: place, value: value, none: numeric && isNaN(value) };
    });
    rows.sort(function (a, b) {
      if (a.none !== b.none) return a.none ? 1 : -1;
      if (a.none || a.value === b.value) return a.place - b.place;
      return (a.value < b.value ? -1 : 1) * sign;
    });
    rows.forEach(function (item) { body.appendChild(item.row); });
    var section = table.closest("section");
    if (section && section.refilter && rows.length > MOST) section.refilter();  // others are the first ones now
    keep();
  }

  // "frechet < 20": a column's number as printed, in the first shown column whose heading starts with the name.
  function condition(text, table) {
    var found = /^(.+?)\s*(<=?|>=?)\s*(-?[\d.]+(?:e-?\d+)?)$/.exec(text), name = found ? found[1].toLowerCase() : "";
    var head = found && all(".heads th.num", table).filter(function (each) {
      return each.title.toLowerCase().indexOf(name) === 0 && each.offsetParent !== null;
    })[0];
    if (!head) return null;
    var bound = parseFloat(found[3]), least = found[2].charAt(0) === ">";
    return function (row) {
      var value = row.cells[head.cellIndex].querySelector(".value");
      var number = value ? parseFloat(value.textContent.replace(/,/g, "")) : NaN;
      return least ? number > bound || (found[2] === ">=" && number === bound)
        : number < bound || (found[2] === "<=" && number === bound);
    };
  }

  function filters(section) {
    var tools = section.querySelector(".tools");
    if (!tools) return;
    var text = tools.querySelector(".filter"), complete = tools.querySelector(".complete");
    var rest = tools.querySelector(".rest"), most = MOST;
    var apply = function () {
      var table = section.querySelector("table.main"), fit = 0;
      var wanted = text.value.split(";").map(function (part) { return part.trim().toLowerCase(); }).map(function (part) {
        return condition(part, table) || function (row) { return row.dataset.name.toLowerCase().indexOf(part) >= 0; };
      });
      all("table.main tbody tr", section).forEach(function (row) {
        var named = wanted.every(function (fits) { return fits(row); });
        row.left = named && (!complete.checked || row.dataset.complete === "yes");
        if (row.left) fit += 1;
        if (row.hidden !== (!row.left || fit > most)) row.hidden = !row.hidden;
      });
      rest.hidden = fit <= most;
      rest.textContent = "show all " + fit + " rows, not the first " + most;
      points(section);
      keep();
    };
    section.refilter = apply;
    text.addEventListener("input", apply);
    complete.addEventListener("change", apply);
    rest.addEventListener("click", function () { most = Infinity; apply(); });
    if (section.querySelectorAll("table.main tbody tr").length > most) apply();
    tools.hidden = false;
  }

  // The plot shows the points of the rows that are shown, and the front among these. Ids of a row: line, name, points.
  function points(section) {
    var figure = section.querySelector(".scatter"), shown = {}, left = [];
    if (!figure) return;
    var own = function (row) { return row.dataset.points ? row.dataset.points.split(" ") : []; };
    var rows = all("table.main tbody tr", section);
    rows.forEach(function (row) { own(row).forEach(function (id) { shown[id] = shown[id] || row.left !== false; }); });
    all("g[id]", figure).forEach(function (part) {
      var id = part.id.split("--").length > 1 && !(part.id in shown) ? part.id.replace(/--\d+$/, "") : part.id;
      if (!(id in shown)) return;
      part.style.display = shown[id] ? "" : "none";
      var dot = id === part.id && id.indexOf("point-") === 0 ? part.querySelector("use") : null;
      if (dot && shown[id]) left.push([+dot.getAttribute("x"), +dot.getAttribute("y")]);
    });
    var front = figure.querySelector("#front path");
    if (!front) return;
    if (!front.dataset.whole) front.dataset.whole = front.getAttribute("d");
    if (!rows.some(function (row) { return row.left === false; })) return front.setAttribute("d", front.dataset.whole);
    var sign = figure.dataset.better === "higher" ? 1 : -1, best = null, path = "";
    left.sort(function (a, b) { return a[0] - b[0] || sign * (a[1] - b[1]); });
    left.forEach(function (point) {  // y grows downwards
      if (best !== null && sign * (best - point[1]) <= 0) return;
      path += (best === null ? "M " : "L " + point[0] + " " + best + " L ") + point[0] + " " + point[1] + " ";
      best = point[1];
    });
    front.setAttribute("d", path || "M 0 0");
  }

  // A click on a point goes to its row.
  function pointing(section) {
    all("table.main tbody tr[data-points]", section).forEach(function (row) {
      row.dataset.points.split(" ").slice(2).forEach(function (id) {
        var point = document.getElementById(id);
        if (!point) return;
        point.style.cursor = "pointer";
        point.addEventListener("click", function () {
          row.scrollIntoView({ block: "center" });
          row.classList.add("chosen");
          setTimeout(function () { row.classList.remove("chosen"); }, 2500);
        });
      });
    });
  }

  // What is filtered and sorted stands in the address, after the section's name, so that a link shows the same.
  function state(section) {
    var table = section.querySelector("table.main"), heads = all(".heads th", table), parts = [];
    var text = section.querySelector(".filter").value, sorted = table.querySelector("th[aria-sort]");
    if (text) parts.push("filter=" + encodeURIComponent(text));
    if (section.querySelector(".complete").checked) parts.push("complete");
    var box = section.querySelector(".all-columns");
    if (box && box.checked) parts.push("all");
    if (sorted) parts.push("sort=" + heads.indexOf(sorted) + sorted.getAttribute("aria-sort").charAt(0));
    return parts.length ? section.id + "?" + parts.join("&") : "";
  }

  var restoring = true;
  function keep() {
    if (restoring) return;
    var told = all("main > section").filter(function (section) { return section.querySelector(".tools"); });
    var text = told.map(state).filter(Boolean).join(";");
    // a sandboxed frame has no history
    try { history.replaceState(null, "", text ? "#" + text : location.pathname + location.search); } catch (error) { /* as it is */ }
  }

  function restore() {
    location.hash.slice(1).split(";").forEach(function (part) {
      var section = part.indexOf("?") > 0 ? document.getElementById(part.split("?")[0]) : null;
      if (!section || !section.querySelector(".tools")) return;
      part.split("?")[1].split("&").forEach(function (item) {
        var name = item.split("=")[0], value = item.slice(name.length + 1);
        var box = section.querySelector(name === "complete" ? ".complete" : ".all-columns");
        if (name === "filter") section.querySelector(".filter").value = decodeURIComponent(value);
        if ((name === "complete" || name === "all") && box) { box.checked = true; box.dispatchEvent(new Event("change")); }
        if (name === "sort") {
          var head = all(".heads th", section)[parseInt(value, 10)];
          var wanted = /a$/.test(value) ? "ascending" : "descending";
          for (var i = 0; head && i < 2 && head.getAttribute("aria-sort") !== wanted; i++) head.querySelector("button").click();
        }
      });
      section.querySelector(".filter").dispatchEvent(new Event("input"));
      section.scrollIntoView();
    });
    restoring = false;
  }

  // Columns that are not shown from the start come and go; the groups above them span what is visible.
  function columns(section) {
    var table = section.querySelector("table.main"), box = section.querySelector(".all-columns");
    if (!table || !box) return;
    var heads = all(".groups th", table), totals = heads.map(function (head) { return head.colSpan; });
    var apply = function () {
      table.classList.toggle("few", !box.checked);
      heads.forEach(function (head, index) {
        var span = box.checked ? totals[index] : parseInt(head.dataset.shown, 10);
        head.hidden = span === 0;
        head.colSpan = span || 1;
      });
      keep();
    };
    box.addEventListener("change", apply);
    apply();
  }

  function copying(button) {
    var source = document.getElementById(button.dataset.from), label = button.textContent;
    var say = function (text) {
      button.textContent = text;
      setTimeout(function () { button.textContent = label; }, 1600);
    };
    var text = source.tagName === "A" ? decodeURIComponent(source.href.slice(source.href.indexOf(",") + 1)) : source.value;
    var byHand = function () {
      if (source.tagName === "A") return say("Not allowed here: save it");
      source.focus();
      source.select();
      var done = false;
      try { done = document.execCommand("copy"); } catch (error) { done = false; }
      say(done ? "Copied" : "Selected: press Ctrl+C");
    };
    button.hidden = false;
    button.addEventListener("click", function () {
      // a sandboxed frame has no clipboard, and may have no navigator.clipboard at all
      if (!navigator.clipboard || !navigator.clipboard.writeText) return byHand();
      navigator.clipboard.writeText(text).then(function () { say("Copied"); }, byHand);
    });
  }

  function samples() {
    var tiles = all(".tile[data-id]");
    var mark = function (id) {
      tiles.forEach(function (tile) { tile.classList.toggle("seen", id !== null && tile.dataset.id === id); });
    };
    tiles.forEach(function (tile) {
      tile.addEventListener("mouseenter", function () { mark(tile.dataset.id); });
      tile.addEventListener("mouseleave", function () { mark(null); });
    });
  }

  // Numbers that say the same of themselves leave it to their heading.
  function titles(table) {
    var heads = all(".heads th", table);
    all("tbody td.num:not([title])", table).forEach(function (cell) { cell.title = heads[cell.cellIndex].title; });
  }

  all("table.main").forEach(titles);
  all("table.main, table.sortable").forEach(sortable);
  all("main > section").forEach(filters);
  all("main > section").forEach(columns);
  all("button.copy").forEach(copying);
  samples();
  all("main > section").forEach(pointing);
  restore();
  document.documentElement.dataset.ready = "yes";
})();
