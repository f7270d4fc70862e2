// Browsers start no workers for pages that are opened from disk, so the search's runs in a hidden frame there.
// Messages are copied, as between real workers: the page would see the frame's changes to them, and lose what is typed.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.addEventListener("load", () => this.begin(url), { once: true });
      document.documentElement.append(this.frame);
    }

    begin(url) {
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }));
      const script = inside.document.createElement("script");
      script.onload = () => {
        this.deliver = (data) => setTimeout(() => inside.onmessage({ data: inside.structuredClone(data) }));
        this.waiting.forEach(this.deliver);
      };
      script.onerror = (event) => this.onerror?.(event);
      script.src = url;
      inside.document.body.append(script);
    }

    postMessage(data) {
      if (this.deliver) this.deliver(data);
      else this.waiting.push(data);
    }

    terminate() {
      this.frame.remove();
    }
  };
}
