// A saved page: the explorer's page as in a notebook, and everything that it asks for is stored beside it.

import { ExplorerPage } from "../explorer/explorer.js";
import { html } from "../page/dom.js";
import { openStored } from "./answerer.js";

const place = document.getElementById("explorer");

openStored(JSON.parse(document.getElementById("stored").textContent)).then(
  (connect) => {
    const root = html("div", { class: "tsdlab-explorer stored", tabindex: 0 });
    place.replaceChildren(root);
    const page = new ExplorerPage(connect, root);
    // Nothing else on the page takes keys, so they need no click first.
    document.addEventListener("keydown", (event) => { if (event.target === document.body) page.keyboard.press(event); });
  },
  (error) => place.replaceChildren(`This browser cannot open the explorer (${error.message}); one of 2023 or newer can.`),
);
