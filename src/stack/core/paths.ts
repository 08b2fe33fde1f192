/** Paths of files that a compose file names, cleaned as Go's filepath.Join does. */
function clean(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** `path` seen from `workingDir`, which is absolute. */
export function absolutePath(workingDir: string, path: string): string {
  return path.startsWith("/") ? path : clean(`${workingDir}/${path}`);
}

/** Whether a Windows host would call the path absolute: "C:\…" or "\\server\share\…". */
export function isWindowsAbsolute(path: string): boolean {
  return (
    /^[a-zA-Z]:[\\/]/.test(path) || /^[\\/]{2}[^\\/.][^\\/]*[\\/][^\\/.][^\\/]*[\\/]/.test(path)
  );
}
