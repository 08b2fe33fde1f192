import packageJson from "../../package.json" with { type: "json" };

/** swarmd's own version. */
export const PRODUCT_VERSION: string = packageJson.version;
