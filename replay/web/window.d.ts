interface Window {
  /** The page, for tests to inspect. */
  replay: any;
}
