// The tokenizer playground: byte-pair encoding of the reader's own text, merge by merge.
(function () {
  "use strict";
  const NO_MERGE = Infinity;
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  // The pattern is Python's: \s there is Unicode's White_Space; JavaScript's \s lacks
  // U+0085 and has U+FEFF.
  function splitter(pattern) {
    const space = pattern.replace(/\\s/g, "\\p{White_Space}").replace(/\\S/g, "\\P{White_Space}");
    return new RegExp(space, "gu");
  }

  // Special tokens of a text, the longest name first; nothing matches when there are none.
  function finder(names) {
    const escaped = [...names].sort((a, b) => b.length - a.length)
      .map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    return new RegExp(`(${escaped.join("|") || "(?!)"})`);
  }

  // data: `bytes` in the order of their ids, `merges` as pairs of ids, the `pattern`, the
  // ids of `special` tokens by name, and `examples`, texts by their labels.
  function model(data) {
    const split = splitter(data.pattern), special = finder(Object.keys(data.special));
    const byteId = new Map(data.bytes.map((byte, id) => [byte, id]));
    const tokens = data.bytes.map((byte) => [byte]);
    data.merges.forEach(([a, b]) => tokens.push(tokens[a].concat(tokens[b])));
    const key = (a, b) => a * tokens.length + b;
    const merged = new Map(data.merges.map(([a, b], i) => [key(a, b), data.bytes.length + i]));
    const names = new Map(Object.entries(data.special).map(([name, id]) => [id, name]));

    // Words as lists of byte ids. A special token is a word of one id, in no merge.
    const byteIds = (word) => Array.from(encoder.encode(word), (byte) => byteId.get(byte));
    const plain = (text) => (text.match(split) || []).map(byteIds);
    function words(text, allowed) {
      const parts = allowed ? text.split(special) : [text]; // text, name, text…
      return parts.flatMap((part, i) => i % 2 ? [[data.special[part]]] : plain(part));
    }

    // The id that the pair learned earliest becomes.
    function earliest(words) {
      let best = NO_MERGE;
      for (const ids of words) {
        for (let i = 1; i < ids.length; i++) {
          const id = merged.get(key(ids[i - 1], ids[i]));
          if (id < best) best = id;
        }
      }
      return best;
    }

    function replace(ids, [a, b], id) {
      const out = [];
      for (let i = 0; i < ids.length; i++) {
        if (ids[i] === a && ids[i + 1] === b) { out.push(id); i++; } else out.push(ids[i]);
      }
      return out.length < ids.length ? out : ids;
    }

    // Every state of a text, from bytes to the last merge: its words and the id just made.
    function steps(text, allowed) {
      const wellFormed = text.replace(/\p{Cs}/gu, "\uFFFD"); // half a surrogate pair has no bytes
      const states = [{ words: words(wellFormed, allowed), id: null }];
      for (;;) {
        const last = states[states.length - 1].words, id = earliest(last);
        if (id === NO_MERGE) return states;
        const pair = data.merges[id - data.bytes.length];
        states.push({ words: last.map((ids) => replace(ids, pair, id)), id });
      }
    }

    const encode = (text, allowed) => steps(text, allowed).pop().words.flat();
    const bytes = (id) => names.has(id) ? [...encoder.encode(names.get(id))] : tokens[id];
    const decode = (id) => names.has(id) ? names.get(id) : decoder.decode(Uint8Array.from(tokens[id]));
    const pair = (id) => data.merges[id - data.bytes.length];
    return { examples: data.examples, special: [...names.values()], steps, encode, bytes, decode, pair };
  }

  const hexadecimal = (number, digits) => number.toString(16).toUpperCase().padStart(digits, "0");

  // A token so that everything in it can be seen.
  function visible(text) {
    const shown = text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥")
      .replace(/[\p{C}\p{Z}]/gu, (c) => "U+" + hexadecimal(c.codePointAt(0), 4));
    return /^\p{M}/u.test(shown) ? "◌" + shown : shown;
  }

  function mount(host, model, make) {
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
    const area = make("textarea", {
      id: "tokenizer-text", rows: 2, maxlength: 400, spellcheck: "false", dir: "auto", input: read,
    });
    const allow = make("input", { type: "checkbox", change: read });
    const slider = make("input", {
      type: "range", min: 0, step: 1, "aria-label": "Merges applied",
      input: quiet(() => slider.valueAsNumber),
    });
    const said = make("p", { class: "widget-said", "aria-live": "polite" });
    const list = make("ol", { class: "tokens", "aria-label": "Tokens" });
    const counts = make("dl", { class: "token-counts" });
    const play = button("Play", () => timer ? stop() : start());
    let states = [], at = 0, timer = 0;

    function button(label, click) {
      return make("button", { type: "button", click }, label);
    }
    function example([label, text]) {
      return button(label, () => { area.value = text; read(); });
    }
    function quiet(move) {
      return () => { stop(); show(move()); };
    }

    host.setAttribute("role", "group");
    host.setAttribute("aria-label", "Tokenizer playground");
    host.append(
      make("label", { for: area.id }, "Your text"), area,
      make("div", { class: "widget-row", role: "group", "aria-label": "Examples" },
        ...Object.entries(model.examples).map(example)),
      make("label", { class: "widget-check" }, allow, " allow special tokens: ",
        make("code", {}, model.special.join(" "))),
      make("div", { class: "widget-row token-steps" },
        button("First", quiet(() => 0)), button("Back", quiet(() => at - 1)), slider,
        button("Next", quiet(() => at + 1)), button("Last", quiet(() => states.length - 1)), play),
      said, list, counts,
      make("p", { class: "widget-note" },
        "A box is a token: its text, its id, its bytes in hexadecimal. No merge crosses a gap."));

    function read() {
      stop();
      states = model.steps(area.value, allow.checked);
      slider.max = states.length - 1;
      show(states.length - 1);
    }

    function start() {
      if (at === states.length - 1) show(0);
      said.setAttribute("aria-live", "off"); // a step each half second cannot be read aloud
      play.textContent = "Pause";
      timer = setInterval(() => {
        if (at >= states.length - 2) stop();
        show(at + 1);
      }, 500);
    }
    function stop() {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
      said.setAttribute("aria-live", "polite");
    }

    function show(step) {
      at = Math.max(0, Math.min(states.length - 1, step));
      slider.value = at;
      const { words, id } = states[at];
      let number = 0;
      list.replaceChildren(...words.flatMap((ids) => ids.map((token, i) => {
        const last = i === ids.length - 1 ? " last" : "", made = token === id ? " made" : "";
        return box(token, `token hue-${number++ % 3}${last}${made}`);
      })));
      said.replaceChildren(...sentence(words, id));
      slider.setAttribute("aria-valuetext", `${at} of ${states.length - 1}`);
      count(words);
    }

    const spelled = (id) => make("bdi", {}, visible(model.decode(id)));
    const code = (id) => make("code", {}, spelled(id));
    function box(id, classes) {
      const bytes = model.bytes(id).map((byte) => hexadecimal(byte, 2)).join(" ");
      return make("li", { class: classes, "data-id": id },
        spelled(id), make("b", {}, String(id)), make("small", {}, bytes));
    }

    function sentence(words, id) {
      if (states.length === 1) return ["No merge of this vocabulary applies."];
      const start = `Merge ${at} of ${states.length - 1}: `;
      if (id === null) return [start + "the bytes, before any merge."];
      const [a, b] = model.pair(id), times = words.flat().filter((token) => token === id).length;
      const end = times === 1 ? "." : `, ${times} times.`;
      return [start, code(a), " and ", code(b), ` become token ${id}, `, code(id), end];
    }

    function count(words) {
      const ids = words.flat();
      const bytes = ids.reduce((sum, id) => sum + model.bytes(id).length, 0);
      const each = ids.length ? (bytes / ids.length).toFixed(2) : "–";
      const rows = { characters: [...area.value].length, bytes, tokens: ids.length, "bytes per token": each };
      counts.replaceChildren(...Object.entries(rows).map(([name, value]) =>
        make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
    }

    const still = () => { play.hidden = calm.matches; stop(); };
    calm.addEventListener("change", still);
    still();
    area.value = Object.values(model.examples)[0];
    read();
  }

  window.bookWidgets.add("tokenizer", { model, mount });
})();
