// The filter of a comparison's numbers, and the address that keeps it. The tables are complete without this.
(function () {
  "use strict";
  var all = function (selector, root) { return Array.prototype.slice.call((root || document).querySelectorAll(selector)); };
  var search = document.getElementById("search"), verdict = document.getElementById("verdict");
  var count = document.getElementById("count");
  var parts = all("main > section").map(function (section) {
    var name = section.querySelector("h2").textContent.toLowerCase() + " ";
    return { section: section, folds: all("details", section), rows: all("table.differences tbody tr", section).map(function (row) {
      return { row: row, text: name + row.textContent.toLowerCase(), verdict: row.className };
    }) };
  }).filter(function (part) { return part.rows.length; });

  function apply() {
    var words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean), shown = 0, of = 0;
    var chosen = words.length > 0 || verdict.value !== "";
    parts.forEach(function (part) {
      var left = 0;
      part.rows.forEach(function (each) {
        var fits = (!verdict.value || each.verdict === verdict.value)
          && words.every(function (word) { return each.text.indexOf(word) >= 0; });
        if (each.row.hidden === fits) each.row.hidden = !fits;
        if (fits) left += 1;
      });
      part.folds.forEach(function (fold) {  // what is looked for is not left folded away
        if (chosen && fold.querySelector("table.differences tbody tr:not([hidden])")) fold.open = true;
      });
      part.section.hidden = left === 0;
      shown += left;
      of += part.rows.length;
    });
    count.textContent = shown + " of " + of + " numbers";
  }

  function remember() {
    var told = [["q", search.value.trim()], ["verdict", verdict.value]]
      .filter(function (pair) { return pair[1]; })
      .map(function (pair) { return pair[0] + "=" + encodeURIComponent(pair[1]); });
    // a sandboxed frame may refuse
    try { history.replaceState(null, "", told.length ? "#" + told.join("&") : location.pathname); } catch (error) { return; }
  }

  function recall() {
    location.hash.slice(1).split("&").forEach(function (part) {
      var box = { q: search, verdict: verdict }[part.split("=")[0]];
      try { if (box) box.value = decodeURIComponent(part.slice(part.indexOf("=") + 1)); } catch (error) { return; }
    });
  }

  [search, verdict].forEach(function (box) {
    box.addEventListener("input", function () { apply(); remember(); });
  });
  document.querySelector(".tools").hidden = false;
  recall();
  apply();
})();
