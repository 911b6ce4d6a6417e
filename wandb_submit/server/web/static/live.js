// Keeps a page fresh while something can still happen: it fetches itself again and puts the new content in place
// of the old, without losing the reader's place. Without scripts a page is simply as old as its last loading.
"use strict";

const PERIOD_MS = 10_000;

function busy(main) {
  const selection = document.getSelection();
  return document.hidden || main.contains(document.activeElement) || (selection !== null && !selection.isCollapsed);
}

// What the reader has opened and how far they have scrolled, by its place among its like.
function state(main) {
  return {
    open: [...main.querySelectorAll("details")].map((element) => element.open),
    scrolled: [...main.querySelectorAll(".scroll, pre, .log")].map((element) => [element.scrollLeft, element.scrollTop]),
  };
}

function restore(main, before) {
  [...main.querySelectorAll("details")].forEach((element, index) => {
    element.open = before.open[index] ?? false;
  });
  [...main.querySelectorAll(".scroll, pre, .log")].forEach((element, index) => {
    [element.scrollLeft, element.scrollTop] = before.scrolled[index] ?? [0, 0];
  });
}

async function refresh() {
  const main = document.querySelector("main[data-live]");
  if (main === null) {
    return;
  }
  if (!busy(main)) {
    try {
      const answer = await fetch(location.pathname + location.search, { cache: "no-store" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const content = fresh.querySelector("main");
      if (answer.ok && content !== null && !busy(main)) {
        const before = state(main);
        main.replaceWith(content);
        restore(content, before);
        document.querySelector("footer")?.replaceWith(fresh.querySelector("footer"));
      }
    } catch (error) {
      // The server is away for now; the next try may find it.
      console.debug(error);
    }
  }
  setTimeout(refresh, PERIOD_MS);
}

setTimeout(refresh, PERIOD_MS);
