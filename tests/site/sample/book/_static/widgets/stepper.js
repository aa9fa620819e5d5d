// The sample's widget: one step a click.
(function () {
  "use strict";
  function model(steps) {
    return { at: (n) => steps[n % steps.length] };
  }
  function mount(host, model, make) {
    let n = 0;
    const shown = make("span", { role: "status" }, model.at(n));
    const click = () => { n += 1; shown.textContent = model.at(n); };
    host.append(make("button", { type: "button", click, hidden: false, "data-on": true }, "Step"), shown);
  }
  window.bookWidgets.add("stepper", { model, mount });
})();
