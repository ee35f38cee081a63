// Sorting, filtering and copying. Everything on the page is readable without this.
(function () {
  "use strict";
  var all = function (selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); };

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
  }

  function filters(section) {
    var tools = section.querySelector(".tools");
    if (!tools) return;
    var text = tools.querySelector(".filter"), complete = tools.querySelector(".complete");
    var apply = function () {
      var wanted = text.value.trim().toLowerCase();
      all("table.main tbody tr", section).forEach(function (row) {
        var named = row.dataset.name.toLowerCase().indexOf(wanted) >= 0;
        row.hidden = !named || (complete.checked && row.dataset.complete !== "yes");
      });
    };
    text.addEventListener("input", apply);
    complete.addEventListener("change", apply);
    tools.hidden = false;
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
    var byHand = function () {
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
      navigator.clipboard.writeText(source.value).then(function () { say("Copied"); }, byHand);
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

  all("table.main, table.sortable").forEach(sortable);
  all("main > section").forEach(filters);
  all("main > section").forEach(columns);
  all("button.copy").forEach(copying);
  samples();
  document.documentElement.dataset.ready = "yes";
})();
