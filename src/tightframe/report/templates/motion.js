(() => {
  "use strict";
  const LENGTH = 7000; // of a whole motion, in milliseconds
  const [SHORTEST, LONGEST] = [40, 400]; // time of a frame
  const TICK = 25;
  const SPIN = 0.00012; // of a globe that plays, in radians per millisecond
  const PER_PIXEL = 0.008; // radians
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const players = new WeakMap();

  function player(figure, { steps, name, solid }) {
    const [button, output] = ["button", "output"].map((tag) => figure.querySelector(`.player ${tag}`));
    const [slider, angle] = ["at", "turn"].map((use) => figure.querySelector(`.player input[name='${use}']`));
    const time = Math.min(LONGEST, Math.max(SHORTEST, LENGTH / steps.length));
    const eye = { turn: 0, tilt: 0 };
    let view = null;
    let position = steps.length - 1; // with the part of the frame's time that has passed
    let playing = false;
    let plays = 0; // how often play was asked for: an earlier loop that still sleeps does not go on
    let spins = solid;
    let drawing = false;
    let stale = false;

    const at = () => Math.min(steps.length - 1, Math.floor(position));

    async function show() {
      const text = `${name} ${Number(Number(steps[at()]).toPrecision(6))}`;
      if (output.textContent !== text) {
        slider.value = at();
        slider.setAttribute("aria-valuetext", text);
        output.textContent = text;
      }
      if (solid) angle.value = Math.round((((eye.turn * 180) / Math.PI) % 360) + 360) % 360;
      stale = true;
      if (drawing) return;
      drawing = true;
      while (stale) {
        stale = false;
        view.signal("now", steps[at()]);
        if (solid) view.signal("turn", eye.turn).signal("tilt", eye.tilt);
        await view.runAsync();
      }
      drawing = false;
    }

    function set(state) {
      playing = state && steps.length > 1;
      figure.dataset.playing = playing;
      button.textContent = playing ? "Pause" : "Play";
    }

    async function play() {
      if (at() === steps.length - 1) position = 0;
      set(true);
      const mine = (plays += 1);
      let before = performance.now();
      await show();
      while (playing) {
        await new Promise((done) => setTimeout(done, TICK));
        const now = performance.now();
        const passed = Math.min(100, now - before); // a window that was hidden goes on where it was
        before = now;
        if (!playing || mine !== plays) return;
        position = Math.min(steps.length - 1, position + passed / time);
        if (spins) eye.turn += passed * SPIN;
        if (position === steps.length - 1) set(false);
        await show();
      }
    }

    function turned(across, down) {
      spins = false;
      eye.turn -= across * PER_PIXEL;
      eye.tilt = Math.min(1.5, Math.max(-1.5, eye.tilt + down * PER_PIXEL));
      show();
    }

    button.addEventListener("click", () => (playing ? set(false) : play()));
    slider.addEventListener("input", () => {
      set(false);
      position = Number(slider.value);
      show();
    });
    angle?.addEventListener("input", () => {
      spins = false;
      eye.turn = (angle.value * Math.PI) / 180;
      show();
    });
    if (solid) draggable(figure.querySelector(".chart"), turned);

    // It plays once when it comes into sight, unless the reader wants calm; out of sight it rests.
    let seen = false;
    new IntersectionObserver(
      ([entry]) => {
        if (!entry.isIntersecting) set(false);
        else if (!seen && !calm.matches && view && (seen = true)) play();
      },
      { threshold: 0.6 },
    ).observe(figure.querySelector(".chart"));

    return (next) => {
      if (solid && view === null) [eye.turn, eye.tilt] = [next.signal("turn"), next.signal("tilt")];
      view = next;
      show();
    };
  }

  // A click stays a click: the pointer turns the globe only once it has moved.
  function draggable(box, moved) {
    let last = null;
    box.addEventListener("pointerdown", (event) => {
      if (event.button === 0 && event.target.closest("svg.marks")) last = event;
    });
    box.addEventListener("pointermove", (event) => {
      if (last === null || event.pointerId !== last.pointerId) return;
      const [across, down] = [event.clientX - last.clientX, event.clientY - last.clientY];
      if (!box.hasPointerCapture(event.pointerId)) {
        if (Math.hypot(across, down) < 4) return;
        box.setPointerCapture(event.pointerId);
      }
      last = event;
      moved(across, event.pointerType === "touch" ? 0 : down);
    });
    for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, () => (last = null));
  }

  document.addEventListener("drawn", ({ target: figure, detail: { view, motion } }) => {
    if (!motion) return;
    if (!players.has(figure)) players.set(figure, player(figure, motion));
    figure.querySelector(".player").hidden = false;
    players.get(figure)(view);
  });
})();
