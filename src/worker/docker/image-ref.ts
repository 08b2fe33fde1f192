/** The parameters of `POST /images/create` for an image: without a tag it would pull all of them. */
export function pullQuery(image: string): Readonly<Record<string, string>> {
  if (image.includes("@")) return { fromImage: image };
  const lastPart = image.slice(image.lastIndexOf("/") + 1);
  const colon = lastPart.indexOf(":");
  if (colon < 0) return { fromImage: image, tag: "latest" };
  const tag = lastPart.slice(colon + 1);
  return { fromImage: image.slice(0, image.length - tag.length - 1), tag };
}
