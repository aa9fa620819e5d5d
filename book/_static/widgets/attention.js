// The attention explorer: what each word of the chapter's story reads, computed from the
// products of queries and keys.
(function () {
  "use strict";

  // The softmax of each row of `products`, (T, T). Options: `scale` multiplies them,
  // `temperature` divides them, `causal` hides the words that come later.
  function weights(products, { scale = 1, temperature = 1, causal = true } = {}) {
    return products.map((row, t) => {
      const scores = row.map((product, s) => causal && s > t ? -Infinity : product * scale / temperature);
      const largest = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - largest));
      const sum = powers.reduce((a, b) => a + b);
      return powers.map((power) => power / sum);
    });
  }

  // data: `head_width`, the names of the `layers`, and `stories`, each with its `words` and
  // the `products` of each layer.
  function model(data) {
    return { ...data, scale: 1 / Math.sqrt(data.head_width), weights };
  }

  // As the figure writes it: .96
  const brief = (weight) => weight.toFixed(2).replace(/^0/, "");

  function mount(host, model, make) {
    const chosen = { story: 0, layer: model.layers.length - 1, word: 0, hover: null };
    const words = () => model.stories[chosen.story].words;
    const scaled = make("input", { type: "checkbox", checked: true, change: show });
    const causal = make("input", { type: "checkbox", checked: true, change: show });
    const heat = make("input", { type: "range", min: -1, max: 1, step: 0.05, value: 0, input: show });
    const degree = make("span", {});
    const said = make("p", { class: "widget-said", "aria-live": "polite" });
    const tokens = choice("The outlined word reads", "word", words(), (i) => { chosen.word = i; });
    const head = make("tr", {}), body = make("tbody", {});

    // A group of radio buttons: one stop of the Tab key, moved through with the arrows.
    function choice(legend, name, labels, choose) {
      const group = make("fieldset", { class: `choice choice-${name}` }, make("legend", {}, legend));
      labels.forEach((label, i) => {
        const change = () => pick(() => choose(i));
        const input = make("input", { type: "radio", name: `attention-${name}`, value: i, change });
        group.append(make("label", {}, input, make("span", { class: "choice-label" }, label)));
      });
      return group;
    }
    function pick(choose) {
      chosen.hover = null; // what was chosen counts, wherever the pointer rests
      choose();
      show();
    }
    const inputs = (group) => [...group.querySelectorAll("input")];

    const questions = model.stories.map((story) => story.words[story.words.length - 1] + "?");
    const stories = choice("Question", "story", questions, (i) => { chosen.story = i; });
    const layers = choice("Layer", "layer", model.layers, (i) => { chosen.layer = i; });
    const reset = make("button", { type: "button", click: restore }, "As in the chapter");

    host.setAttribute("role", "group");
    host.setAttribute("aria-label", "Attention explorer");
    host.append(
      make("div", { class: "widget-row" }, stories, layers),
      tokens, said,
      make("div", { class: "widget-row attention-settings" },
        make("label", { class: "widget-check" }, scaled, ` divide by √D (D = ${model.head_width})`),
        make("label", { class: "widget-check" }, causal, " causal mask"),
        make("label", { class: "widget-check" }, "temperature ", heat, degree),
        reset),
      make("table", { class: "attention-matrix" },
        make("caption", { class: "visually-hidden" }, "Each row: how much its word reads of each word"),
        make("thead", {}, head), body));

    inputs(tokens).forEach((input, i) => {
      input.parentNode.append(make("span", { class: "choice-weight", "aria-hidden": "true" }));
      hover(input.parentNode, i);
    });
    function hover(element, i) {
      element.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") { chosen.hover = i; show(); }
      });
      element.addEventListener("pointerleave", () => { chosen.hover = null; show(); });
    }
    head.append(make("td", {}), ...words().map(() => make("th", { scope: "col" })));
    const rows = words().map((_, t) => {
      const row = make("tr", { click: () => pick(() => { chosen.word = t; }) },
        make("th", { scope: "row" }), ...words().map(() => make("td", {})));
      hover(row, t);
      body.append(row);
      return row;
    });

    function restore() {
      scaled.checked = causal.checked = true;
      heat.value = 0;
      Object.assign(chosen, { story: model.start, layer: model.layers.length - 1, word: words().length - 1 });
      show();
    }

    function show() {
      const story = model.stories[chosen.story], temperature = 10 ** heat.valueAsNumber;
      const options = { scale: scaled.checked ? model.scale : 1, temperature, causal: causal.checked };
      const matrix = model.weights(story.products[chosen.layer], options);
      const reader = chosen.hover ?? chosen.word;
      [[stories, chosen.story], [layers, chosen.layer], [tokens, chosen.word]].forEach(([group, i]) => {
        inputs(group)[i].checked = true;
      });
      degree.textContent = temperature.toFixed(temperature < 1 ? 2 : 1);
      heat.setAttribute("aria-valuetext", degree.textContent);
      inputs(tokens).forEach((input, i) => {
        const label = input.parentNode;
        const hidden = causal.checked && i > reader;
        label.querySelector(".choice-label").textContent = story.words[i];
        label.querySelector(".choice-weight").textContent = hidden ? "–" : brief(matrix[reader][i]);
        label.classList.toggle("reader", i === reader);
        paint(label, matrix[reader][i]);
      });
      table(story.words, matrix, reader);
      said.setAttribute("aria-live", chosen.hover === null ? "polite" : "off");
      said.textContent = sentence(story.words, reader, matrix[reader]);
    }

    function table(words, matrix, reader) {
      words.forEach((word, t) => {
        head.cells[t + 1].textContent = word;
        const [name, ...cells] = rows[t].cells;
        name.textContent = word;
        rows[t].classList.toggle("reader", t === reader);
        cells.forEach((cell, s) => {
          cell.textContent = matrix[t][s] >= 0.1 ? brief(matrix[t][s]) : "";
          cell.classList.toggle("masked", causal.checked && s > t);
          paint(cell, matrix[t][s]);
        });
      });
    }

    // Soft below one half, full above: the number stays legible on every shade.
    function paint(element, weight) {
      element.classList.toggle("strong", weight > 0.5);
      element.style.setProperty("--weight", weight.toFixed(4));
    }

    function sentence(words, reader, row) {
      const read = row.map((weight, i) => [weight, `${words[i]} ${brief(weight)}`]);
      const most = read.filter(([weight]) => weight >= 0.05).sort((a, b) => b[0] - a[0]).slice(0, 3);
      const who = `In ${model.layers[chosen.layer]}, ${words[reader]} (word ${reader + 1}) reads `;
      return who + most.map(([, text]) => text).join(", ") + ".";
    }

    restore();
  }

  window.bookWidgets.add("attention", { model, mount });
})();
