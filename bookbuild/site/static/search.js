// Search in the reader's browser; the text arrives as a script, so it works from a file too.
(function () {
  "use strict";
  var base = document.documentElement.dataset.content_root || "./";
  var dialog = document.getElementById("search-dialog");
  var page = document.getElementById("search-page");
  var loading = null;

  function load() {
    if (!loading) {
      loading = new Promise(function (resolve, reject) {
        var script = document.createElement("script");
        script.src = base + "_static/search-data.js";
        script.onload = function () {
          resolve(window.bookSearchData.map(function (row) {
            return { uri: row[0], chapter: row[1], anchor: row[2], title: row[3], text: row[4],
              low: row[4].toLowerCase(), lowTitle: row[3].toLowerCase() };
          }));
        };
        script.onerror = reject;
        document.head.appendChild(script);
      });
    }
    return loading;
  }
  function find(rows, query) {
    var words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    var found = [];
    rows.forEach(function (row) {
      var score = 0;
      for (var i = 0; i < words.length; i++) {
        var word = words[i], inTitle = row.lowTitle.indexOf(word), inText = row.low.indexOf(word);
        if (inTitle < 0 && inText < 0) return;
        if (inTitle >= 0) score += inTitle === 0 ? 30 : 20;
        if (inText >= 0) {
          score += Math.min(8, row.low.split(word).length - 1);
          if (/^$|[^a-z0-9_]/.test(row.low.charAt(inText - 1))) score += 3;
        }
      }
      if (words.length > 1 && row.low.indexOf(words.join(" ")) >= 0) score += 12;
      found.push([score, row]);
    });
    found.sort(function (a, b) { return b[0] - a[0]; });
    return found.slice(0, 30).map(function (pair) { return pair[1]; });
  }
  function excerpt(row, words) {
    var at = row.low.indexOf(words.join(" "));
    for (var i = 0; i < words.length && at < 0; i++) at = row.low.indexOf(words[i]);
    var start = Math.max(0, at - 60);
    if (start) start = row.text.indexOf(" ", start) + 1;
    var text = row.text.slice(start, start + 170);
    var holder = document.createElement("span");
    holder.append(start ? "… " : "");
    var low = text.toLowerCase(), from = 0;
    for (;;) {
      var next = -1, length = 0;
      words.forEach(function (word) {
        var place = low.indexOf(word, from);
        if (place >= 0 && (next < 0 || place < next)) { next = place; length = word.length; }
      });
      if (next < 0) break;
      var mark = document.createElement("mark");
      mark.textContent = text.slice(next, next + length);
      holder.append(text.slice(from, next), mark);
      from = next + length;
    }
    holder.append(text.slice(from), " …");
    return holder;
  }
  function build(host) {
    var form = document.createElement("form");
    var input = document.createElement("input");
    var status = document.createElement("p");
    var list = document.createElement("ul");
    form.setAttribute("role", "search");
    input.type = "search";
    input.placeholder = "Search the book";
    input.setAttribute("aria-label", "Search the book");
    input.autocomplete = "off";
    status.setAttribute("role", "status");
    status.className = "search-status";
    list.className = "search-results";
    form.append(input);
    host.append(form, status, list);
    function run() {
      var words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      load().then(function (rows) {
        var found = find(rows, input.value);
        list.textContent = "";
        status.textContent = !words.length ? "" : found.length ? found.length + (found.length === 30 ? " best" : "") + (found.length === 1 ? " place" : " places") : "Nothing has all these words.";
        found.forEach(function (row) {
          var item = document.createElement("li"), link = document.createElement("a");
          var where = document.createElement("span"), title = document.createElement("strong");
          link.href = base + row.uri + (row.anchor ? "#" + row.anchor : "");
          title.textContent = row.title || row.chapter;
          where.textContent = row.title === row.chapter ? "" : row.chapter;
          where.className = "search-where";
          link.append(title, where, excerpt(row, words));
          link.addEventListener("click", function () { if (dialog.open) dialog.close(); });
          item.append(link);
          list.append(item);
        });
      }, function () { status.textContent = "The search data could not be loaded."; });
    }
    input.addEventListener("input", run);
    form.addEventListener("submit", function (event) {
      event.preventDefault();
      var first = list.querySelector("a");
      if (first) first.click();
    });
    form.addEventListener("keydown", function (event) {
      if (event.key === "ArrowDown" && list.querySelector("a")) { event.preventDefault(); list.querySelector("a").focus(); }
    });
    list.addEventListener("keydown", function (event) {
      var links = Array.prototype.slice.call(list.querySelectorAll("a")), at = links.indexOf(document.activeElement);
      if (event.key === "ArrowDown" && links[at + 1]) { event.preventDefault(); links[at + 1].focus(); }
      if (event.key === "ArrowUp") { event.preventDefault(); (links[at - 1] || input).focus(); }
    });
    return { input: input, run: run };
  }
  if (page) {
    var here = build(page);
    var query = new URLSearchParams(location.search).get("q");
    if (query) { here.input.value = query; here.run(); }
    here.input.focus();
    return;
  }
  var popup = null;
  function open() {
    if (!popup) {
      popup = build(dialog);
      var close = document.createElement("button");
      close.type = "button";
      close.className = "dialog-close";
      close.textContent = "Close";
      close.addEventListener("click", function () { dialog.close(); });
      dialog.append(close);
      dialog.addEventListener("click", function (event) { if (event.target === dialog) dialog.close(); });
    }
    dialog.showModal();
    popup.input.focus();
    popup.input.select();
    load();
  }
  var button = document.getElementById("search-button");
  button.setAttribute("role", "button");
  button.addEventListener("click", function (event) { event.preventDefault(); open(); });
  button.addEventListener("keydown", function (event) { if (event.key === " ") { event.preventDefault(); open(); } });
  document.addEventListener("keydown", function (event) {
    var typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) || document.activeElement.isContentEditable;
    var slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
    if ((slash || (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey))) && !dialog.open) {
      event.preventDefault();
      open();
    }
  });
})();
