// The demo's page: tabs for the blocks, maps on and off, a large view of every picture. Without it
// the page shows everything.

function make(tag, attributes, text) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// One group of panels becomes tabs: arrow keys, Home and End move between them.
function makeTabs(group) {
  const panels = [...group.querySelectorAll(":scope > .panel")];
  const list = make("div", { class: "tabs", role: "tablist", "aria-label": group.dataset.label });
  const tabs = panels.map((panel, i) => {
    const id = `${panel.id}-tab`;
    const known = { type: "button", role: "tab", id, "aria-controls": panel.id };
    const tab = make("button", known, panel.dataset.name);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    panel.querySelector(":scope > h3")?.remove();
    tab.addEventListener("click", () => select(i));
    return tab;
  });
  function select(at, focus) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", String(i === at));
      tab.tabIndex = i === at ? 0 : -1;
      panels[i].hidden = i !== at;
    });
    if (focus) tabs[at].focus();
  }
  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    select((to + tabs.length) % tabs.length, true);
  });
  list.append(...tabs);
  group.prepend(list);
  select(0);
}

function makeLargeView() {
  const dialog = make("dialog", { "aria-label": "Picture" });
  const picture = make("img", { alt: "" });
  const facts = make("dl");
  const row = make("div", { class: "row" });
  const file = make("a", {}, "the PNG, which carries its recipe");
  const close = make("button", { type: "button" }, "Close");
  row.append(file, close);
  dialog.append(picture, facts, row);
  document.body.append(dialog);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  return (button) => {
    const image = button.querySelector("img");
    picture.src = image.src;
    picture.alt = image.alt;
    file.href = image.src;
    facts.replaceChildren();
    const { prompt, seed, edit } = button.dataset;
    const all = { prompt: prompt || "(empty)", seed, edit: edit || "none" };
    for (const [name, value] of Object.entries(all)) {
      facts.append(make("dt", {}, name), make("dd", {}, value));
    }
    dialog.showModal();
  };
}

document.querySelectorAll(".group").forEach(makeTabs);
const show = makeLargeView();
document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".zoom");
  if (button) show(button);
});
const maps = document.querySelector("#maps");
maps?.addEventListener("change", () => document.body.classList.toggle("no-maps", !maps.checked));
