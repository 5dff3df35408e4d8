// Images on canvases, of the size and colours that the data has.

const LOOK = FACTS.look; // channels, height and width of the images in this page; ink or as they are
const PIXELS = LOOK.height * LOOK.width;
const INK = LOOK.ink ? "ink" : LOOK.height > 48 || LOOK.width > 48 ? "photo" : "photo coarse"; // class of a canvas

/** A canvas of an image's size, painted: `rgba` of a pixel's index is [red, green, blue, alpha]. */
function imageCanvas(attributes, rgba) {
  const canvas = element("canvas", { width: LOOK.width, height: LOOK.height, role: "img", ...attributes });
  paint(canvas, rgba);
  return canvas;
}

function paint(canvas, rgba) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let index = 0; index < width * height; index += 1) image.data.set(rgba(index), 4 * index);
  context.putImageData(image, 0, 0);
}

/** Image `number` of those in `all`: one channel as ink, which style.css turns round where the page is dark, or grey. */
function shown(all, number = 0) {
  const start = LOOK.channels * PIXELS * number;
  if (LOOK.ink) return (index) => [0, 0, 0, all[start + index]];
  return (index) => [...colour((channel) => all[start + channel * PIXELS + index]), 255];
}

/** Red, green and blue from a function of a channel: one channel is grey; of two, the blue is missing. */
function colour(channel) {
  if (LOOK.channels === 1) return [channel(0), channel(0), channel(0)];
  return [channel(0), channel(1), LOOK.channels === 2 ? 0 : channel(2)];
}

if (LOOK.aspect !== 1) document.documentElement.style.setProperty("--aspect", LOOK.aspect);
