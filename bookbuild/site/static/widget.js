// Live figures. A picture stays until its widget stands in its place; on paper it comes back.
// A widget's script calls bookWidgets.add(name, {model, mount}): model(data) computes and
// touches no page, mount(host, model, make) shows it.
(function () {
  "use strict";
  const known = {};

  // An element: attributes (functions listen, false leaves out, true is empty), then children.
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  }

  function add(name, widget) {
    known[name] = widget;
    document.querySelectorAll(".widget").forEach((host) => {
      if (host.dataset.widget !== name) return;
      const data = host.querySelector("script");
      try {
        widget.mount(host, widget.model(JSON.parse(data.textContent)), make);
        host.classList.add("live");
      } catch (error) {
        host.replaceChildren(data); // half a widget is worse than the picture
        console.error(error);
      }
    });
  }
  window.bookWidgets = { known, add };
})();
