// Search, filters, the front of what is shown, and the address that keeps them. The tables are complete without this.
(function () {
  "use strict";
  var all = function (selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); };
  var search = document.getElementById("search"), family = document.getElementById("family");
  var origin = document.getElementById("origin"), count = document.getElementById("count");
  var boards = all(".board-section").map(function (section) {
    var rows = all("tbody tr", section);
    return {
      section: section, origin: section.dataset.origin, rows: rows,
      texts: rows.map(function (row) { return row.dataset.text; }),
      families: rows.map(function (row) { return row.dataset.family; }),
      figure: section.querySelector("svg.board"),
      points: all("svg.board circle", section)
    };
  });

  // Points that no other shown point beats in both: further left, and better.
  function front(board, shown) {
    if (!board.figure) return;
    var up = board.figure.dataset.better === "up", best = null, path = [];
    var points = board.points.filter(function (point) {
      var visible = shown[point.dataset.row];
      point.style.display = visible ? "" : "none";
      point.classList.remove("best");
      return visible;
    }).map(function (point) {
      return { x: parseFloat(point.getAttribute("cx")), y: parseFloat(point.getAttribute("cy")), point: point };
    });
    // on the page y grows downwards
    points.sort(function (a, b) { return a.x - b.x || (up ? a.y - b.y : b.y - a.y); });
    points.forEach(function (each) {
      if (best === null || (up ? each.y < best : each.y > best)) {
        best = each.y;
        each.point.classList.add("best");
        path.push((path.length ? "L" : "M") + each.x + " " + each.y);
      }
    });
    board.figure.querySelector(".front").setAttribute("d", path.join(" "));
  }

  function apply() {
    var words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean), total = 0, of = 0;
    boards.forEach(function (board) {
      var shown = {}, any = 0, right = !origin.value || board.origin === origin.value;
      board.rows.forEach(function (row, place) {
        var text = board.texts[place];
        var fits = right && (!family.value || board.families[place] === family.value)
          && words.every(function (word) { return text.indexOf(word) >= 0; });
        if (row.hidden === fits) row.hidden = !fits;
        shown[row.dataset.row] = fits;
        if (fits) any += 1;
      });
      board.section.hidden = any === 0;
      total += any;
      of += board.rows.length;
      front(board, shown);
    });
    count.textContent = total + " of " + of + " rows";
  }

  function remember() {
    var parts = [["q", search.value.trim()], ["family", family.value], ["numbers", origin.value]]
      .filter(function (pair) { return pair[1]; })
      .map(function (pair) { return pair[0] + "=" + encodeURIComponent(pair[1]); });
    // a sandboxed frame may refuse
    try { history.replaceState(null, "", parts.length ? "#" + parts.join("&") : location.pathname); } catch (error) { return; }
  }

  function recall() {
    location.hash.slice(1).split("&").forEach(function (part) {
      var at = part.indexOf("="), value = "";
      if (at < 0) return;
      try { value = decodeURIComponent(part.slice(at + 1)); } catch (error) { return; }
      var box = { q: search, family: family, numbers: origin }[part.slice(0, at)];
      if (box) box.value = value;
    });
  }

  [search, family, origin].forEach(function (box) {
    box.addEventListener("input", function () { apply(); remember(); });
  });
  window.addEventListener("hashchange", function () {
    if (location.hash.indexOf("=") > 0) { recall(); apply(); }
  });
  document.querySelector(".board-tools").hidden = false;
  recall();
  apply();
})();
