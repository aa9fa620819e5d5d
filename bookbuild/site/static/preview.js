// A look at what a link points to, on hover and on keyboard focus.
(function () {
  "use strict";
  var box = document.getElementById("preview");
  var source = document.getElementById("preview-data");
  var data = source ? JSON.parse(source.textContent) : {};
  var timer = 0, current = null;

  function fragment(link) {
    var href = link.getAttribute("href");
    if (data[href]) return data[href];
    if (href.charAt(0) !== "#" || href.length < 2) return "";
    var target = document.getElementById(decodeURIComponent(href.slice(1)));
    if (!target || link.closest("nav")) return "";
    if (target.tagName === "DT" && target.nextElementSibling) return clean(target.nextElementSibling);
    if (target.matches("figure, .math-block, .citation, [role=doc-biblioentry]")) return clean(target);
    if (target.matches("section, span")) {
      var section = target.closest("section");
      var heading = section && section.querySelector("h1, h2, h3, h4");
      var text = section && section.querySelector(":scope > p");
      return (heading ? "<strong>" + plain(heading) + "</strong> " : "") + (text ? clean(text) : "");
    }
    return "";
  }
  function plain(element) {
    var copy = element.cloneNode(true);
    Array.prototype.forEach.call(copy.querySelectorAll(".headerlink, .section-number"), function (x) { x.remove(); });
    return copy.innerHTML;
  }
  function clean(element) {
    var copy = element.cloneNode(true);
    Array.prototype.forEach.call(copy.querySelectorAll(".headerlink, .backrefs, button, script, .sidenote, .widget"), function (x) { x.remove(); });
    Array.prototype.forEach.call(copy.querySelectorAll("[id]"), function (x) { x.removeAttribute("id"); });
    Array.prototype.forEach.call(copy.querySelectorAll("a"), function (x) { x.replaceWith.apply(x, Array.prototype.slice.call(x.childNodes)); });
    return copy.matches("figure") ? copy.outerHTML.replace(/ id="[^"]*"/, "") : copy.innerHTML;
  }
  function show(link) {
    var html = fragment(link);
    if (!html) return;
    current = link;
    box.innerHTML = html;
    box.hidden = false;
    link.setAttribute("aria-describedby", "preview");
    var at = link.getBoundingClientRect(), width = box.offsetWidth, height = box.offsetHeight;
    var edge = document.documentElement.clientWidth;
    var left = Math.max(8, Math.min(at.left, edge - width - 8));
    var above = at.bottom + height + 12 > window.innerHeight && at.top > height + 12;
    box.style.left = left + window.scrollX + "px";
    box.style.top = (above ? at.top - height - 6 : at.bottom + 6) + window.scrollY + "px";
  }
  function hide() {
    clearTimeout(timer);
    if (current) current.removeAttribute("aria-describedby");
    current = null;
    box.hidden = true;
  }
  function soon(link) {
    clearTimeout(timer);
    timer = setTimeout(function () { if (link !== current) { hide(); show(link); } }, 250);
  }
  var links = document.querySelectorAll("article a.reference.internal");
  Array.prototype.forEach.call(links, function (link) {
    if (link.title && link.getAttribute("href").indexOf("#") >= 0 && !data[link.getAttribute("href")]) {
      var words = document.createElement("span");
      words.textContent = link.title;
      data[link.getAttribute("href")] = words.innerHTML;
    }
    if (!fragment(link)) return;
    link.removeAttribute("title");
    link.addEventListener("mouseenter", function () { soon(link); });
    link.addEventListener("mouseleave", function () {
      clearTimeout(timer);
      timer = setTimeout(function () { if (!box.matches(":hover")) hide(); }, 200);
    });
    link.addEventListener("focus", function () { if (link.matches(":focus-visible")) { hide(); show(link); } });
    link.addEventListener("blur", hide);
  });
  box.addEventListener("mouseleave", hide);
  document.addEventListener("keydown", function (event) { if (event.key === "Escape") hide(); });
})();
