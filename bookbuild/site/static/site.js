// Colours, menu, place in the chapter, copying, printing. Every page works without it.
(function () {
  "use strict";
  var root = document.documentElement;
  var one = function (selector) { return document.querySelector(selector); };
  var all = function (selector, within) {
    return Array.prototype.slice.call((within || document).querySelectorAll(selector));
  };
  var say = document.createElement("p");
  say.className = "visually-hidden";
  say.setAttribute("role", "status");
  document.body.appendChild(say);

  // Colours: as the system, light, dark.
  var modes = ["", "light", "dark"];
  var names = ["as the system", "light", "dark"];
  var button = one("#theme-button");
  function paint(mode) {
    if (mode) root.dataset.theme = mode; else delete root.dataset.theme;
    button.setAttribute("aria-label", "Colours: " + names[modes.indexOf(mode)]);
    button.title = "Colours: " + names[modes.indexOf(mode)];
  }
  paint(modes.indexOf(root.dataset.theme) > 0 ? root.dataset.theme : "");
  button.addEventListener("click", function () {
    var mode = modes[(modes.indexOf(root.dataset.theme || "") + 1) % modes.length];
    paint(mode);
    try {
      if (mode) localStorage.setItem("theme", mode); else localStorage.removeItem("theme");
    } catch (error) { /* private mode: the choice lasts for this page */ }
    say.textContent = button.title;
  });

  // The menu of a narrow screen; without this script the link shows it as :target.
  var menu = one("#menu-button"), nav = one("#book-nav");
  menu.setAttribute("role", "button");
  menu.setAttribute("aria-expanded", "false");
  function toggle(open) {
    nav.classList.toggle("open", open);
    menu.setAttribute("aria-expanded", String(open));
    if (open) nav.focus(); else menu.focus();
  }
  menu.addEventListener("click", function (event) {
    event.preventDefault();
    toggle(!nav.classList.contains("open"));
  });
  menu.addEventListener("keydown", function (event) {
    if (event.key === " ") { event.preventDefault(); menu.click(); }
  });
  one(".nav-close").addEventListener("click", function (event) {
    event.preventDefault();
    toggle(false);
  });
  nav.addEventListener("keydown", function (event) {
    if (event.key === "Escape" && nav.classList.contains("open")) toggle(false);
  });
  var current = one(".book-nav li.current");
  if (current && nav.scrollHeight > nav.clientHeight) {
    nav.scrollTop = Math.max(0, current.offsetTop - nav.clientHeight / 3);
  }

  // Which section is being read.
  var entries = {};
  all("#page-toc a[href^='#']").forEach(function (link) {
    entries[decodeURIComponent(link.getAttribute("href").slice(1))] = link;
  });
  if (window.IntersectionObserver) {
    var sections = all("article section[id]").filter(function (s) { return entries[s.id]; });
    var seen = new IntersectionObserver(function () {
      var reading = null;
      sections.forEach(function (s) {
        if (s.getBoundingClientRect().top < 160) reading = s;
      });
      Object.keys(entries).forEach(function (id) {
        var here = reading && reading.id === id;
        entries[id].classList.toggle("reading", Boolean(here));
        if (here) entries[id].setAttribute("aria-current", "true");
        else entries[id].removeAttribute("aria-current");
      });
    }, { rootMargin: "-150px 0px -60% 0px", threshold: [0, 0.01, 0.5, 1] });
    sections.forEach(function (s) { seen.observe(s); });
  }

  // Copy the code of a cell.
  all("article div.highlight").forEach(function (block) {
    var code = block.querySelector("pre");
    if (!code || block.closest(".cell_output")) return;
    var copy = document.createElement("button");
    copy.type = "button";
    copy.className = "copy";
    copy.textContent = "Copy";
    copy.setAttribute("aria-label", "Copy this code");
    copy.addEventListener("click", function () {
      var text = code.textContent;
      var done = function () {
        copy.textContent = "Copied";
        say.textContent = "Copied";
        setTimeout(function () { copy.textContent = "Copy"; say.textContent = ""; }, 1500);
      };
      var byHand = function () {
        var area = document.createElement("textarea");
        area.value = text;
        block.appendChild(area);
        area.select();
        document.execCommand("copy");
        area.remove();
        copy.focus();
        done();
      };
      if (navigator.clipboard && window.isSecureContext) {
        navigator.clipboard.writeText(text).then(done, byHand);
      } else byHand();
    });
    block.appendChild(copy);
  });

  // What scrolls sideways can be scrolled with the keyboard.
  function reachable() {
    all("article pre, .math-scroll, .table-wrapper, .cell_output .output").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) {
        box.tabIndex = 0;
        if (!box.hasAttribute("role")) {
          box.setAttribute("role", "group");
          box.setAttribute("aria-label", box.tagName === "PRE" ? "Code" : "Wide content");
        }
      } else box.removeAttribute("tabindex");
    });
  }
  all("article table").forEach(function (table) {
    if (table.parentNode.classList.contains("table-wrapper")) return;
    var wrapper = document.createElement("div");
    wrapper.className = "table-wrapper";
    table.parentNode.insertBefore(wrapper, table);
    wrapper.appendChild(table);
  });
  reachable();
  window.addEventListener("load", reachable);
  window.addEventListener("resize", reachable);
  document.addEventListener("toggle", reachable, true);

  // A link into something folded opens it; paper shows everything but what code hides.
  function reveal() {
    var id = decodeURIComponent(location.hash.slice(1));
    var target = id && document.getElementById(id);
    for (var at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target && target.scrollIntoView) target.scrollIntoView();
  }
  window.addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  var opened = [];
  window.addEventListener("beforeprint", function () {
    var closed = all("details:not([open])");
    opened = opened.concat(closed);
    closed.forEach(function (fold) { fold.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (fold) { fold.open = false; });
    opened = [];
  });
})();
