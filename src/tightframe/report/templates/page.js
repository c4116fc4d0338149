(() => {
  "use strict";
  const NARROW = 560;
  const options = {
    renderer: "svg",
    ast: true, // expressions are interpreted, so that the page needs no eval
    tooltip: { theme: "custom" },
    actions: { export: true, source: false, editor: false, compiled: false },
    downloadFileName: "figure",
  };

  // Legends stand above the plot, in as many columns as there is room for; two of them on a phone would not fit.
  function fit(node, width) {
    if (Array.isArray(node)) {
      node.forEach((child) => fit(child, width));
    } else if (node && typeof node === "object") {
      if (node.legend && node.legend.columns) {
        node.legend.columns = Math.max(1, Math.floor((node.legend.columns * width) / 640));
        if (width < NARROW && node.legend.symbolType !== "circle") node.legend.orient = "bottom";
      }
      if (width < NARROW && node.x?.axis?.tickCount) node.x.axis.tickCount = 4;
      for (const key of Object.keys(node)) {
        if (key !== "datasets") fit(node[key], width);
      }
    }
  }

  function fitted(source, width) {
    const spec = structuredClone(source);
    fit(spec, width);
    if (width < NARROW) {
      spec.config.legend.labelLimit = 120;
      spec.config.axis.labelLimit = 90;
    }
    return spec;
  }

  // Vega-Lite cannot size side-by-side views or square cells to their box: draw once, see what axes and
  // legends take, and give the views what is left.
  function resized(source, width, taken) {
    const spec = structuredClone(source);
    const view = spec.spec ?? spec;
    const columns = spec.columns ?? 1;
    const room = Math.floor((width - taken) / columns);
    const size = Math.max(90, Math.min(room, spec.spec ? 380 : 460));
    if (typeof view.height === "number" && view.height !== view.width) {
      const square = view.mark?.type === "rect";
      view.height = square ? Math.round((view.height * size) / view.width) : view.height;
    } else {
      view.height = size;
    }
    view.width = size;
    return spec;
  }

  const views = new WeakMap();
  async function embed(box, spec) {
    views.get(box)?.finalize();
    views.set(box, await vegaEmbed(box, spec, options));
  }

  const source = (element) => JSON.parse(element.textContent);

  async function draw(figure) {
    const box = figure.querySelector(".chart");
    const given = source(figure.querySelector("script.spec"));
    const width = Math.floor(box.clientWidth);
    const motion = given.usermeta?.motion;
    let spec = fitted(given, width);
    const view = spec.spec ?? spec;
    if (spec.columns && width < NARROW) {
      spec.columns = Math.min(spec.columns, Math.max(1, Math.floor(width / (motion ? 260 : 170))));
    }
    await embed(box, spec);
    if (view.width !== "container") {
      const used = Number(box.querySelector("svg").getAttribute("width"));
      spec = resized(spec, width, used - (spec.columns ?? 1) * view.width);
      await embed(box, spec);
    }
    box.style.minHeight = "";
    figure.dataset.state = "drawn";
    figure.dispatchEvent(new CustomEvent("drawn", { bubbles: true, detail: { view: views.get(box).view, motion } }));
  }

  // What moves is printed as still pictures.
  async function drawStills(box) {
    await vegaEmbed(box, source(box.nextElementSibling), { ...options, actions: false });
  }

  function fail(figure, error) {
    const note = document.createElement("p");
    note.className = "failure";
    note.setAttribute("role", "alert");
    note.textContent = `This figure could not be drawn: ${error.message ?? error}`;
    const box = figure.querySelector(".chart");
    box.style.minHeight = "";
    box.replaceChildren(note);
    figure.dataset.state = "failed";
  }

  const waiting = new Set(document.querySelectorAll("figure[data-state='waiting']"));
  const unprinted = new Set(document.querySelectorAll(".stills"));

  function distance(figure) {
    const { top, bottom } = figure.getBoundingClientRect();
    return Math.max(0, top - window.innerHeight, -bottom);
  }

  const nearest = () => [...waiting].reduce((best, figure) => (distance(figure) < distance(best) ? figure : best));

  const idle = () =>
    new Promise((done) => {
      if (window.requestIdleCallback) window.requestIdleCallback(done, { timeout: 200 });
      else setTimeout(done, 20);
    });

  async function attempt(figure, drawing) {
    try {
      await drawing();
    } catch (error) {
      fail(figure, error);
    }
  }

  // What is in sight comes first, and the rest follows while the page is read, so that all of it can be printed.
  let working = false;
  async function work() {
    if (working) return;
    working = true;
    while (waiting.size) {
      await idle();
      const figure = nearest();
      waiting.delete(figure);
      await attempt(figure, () => draw(figure));
    }
    for (const box of unprinted) {
      await idle();
      unprinted.delete(box);
      await attempt(box.closest("figure"), () => drawStills(box));
    }
    working = false;
    if (waiting.size) work();
  }

  let width = document.documentElement.clientWidth;
  let timer;
  window.addEventListener("resize", () => {
    // a phone's address bar changes the height of the window while one scrolls
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(() => {
      document.querySelectorAll("figure[data-state='drawn']").forEach((figure) => waiting.add(figure));
      work();
    }, 200);
  });
  work();
})();
