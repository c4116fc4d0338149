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
        if (width < NARROW && node.legend.symbolType === "stroke") node.legend.orient = "bottom";
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

  async function draw(figure) {
    const box = figure.querySelector(".chart");
    const source = JSON.parse(figure.querySelector("script[type='application/json']").textContent);
    const width = Math.floor(box.clientWidth);
    let spec = fitted(source, width);
    const view = spec.spec ?? spec;
    if (spec.columns && width < NARROW) spec.columns = Math.min(spec.columns, Math.max(1, Math.floor(width / 170)));
    await embed(box, spec);
    if (view.width !== "container") {
      const used = Number(box.querySelector("svg").getAttribute("width"));
      spec = resized(spec, width, used - (spec.columns ?? 1) * view.width);
      await embed(box, spec);
    }
    figure.dataset.state = "drawn";
  }

  function fail(figure, error) {
    const note = document.createElement("p");
    note.className = "failure";
    note.setAttribute("role", "alert");
    note.textContent = `This figure could not be drawn: ${error.message ?? error}`;
    figure.querySelector(".chart").replaceChildren(note);
    figure.dataset.state = "failed";
  }

  async function drawAll() {
    for (const figure of document.querySelectorAll("figure[data-state='waiting'], figure[data-state='drawn']")) {
      try {
        await draw(figure);
      } catch (error) {
        fail(figure, error);
      }
    }
  }

  let width = document.documentElement.clientWidth;
  let timer;
  window.addEventListener("resize", () => {
    // a phone's address bar changes the height of the window while one scrolls
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAll, 200);
  });
  drawAll();
})();
