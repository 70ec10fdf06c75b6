//! The graph of an execution: as text, and in the formats of other programs.

use crate::common::{Log, Recorder, histories, id, replay, task};

macro_rules! screen {
    ($name:ident, $arguments:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(replay(&histories::all(), $arguments));
        }
    };
}

screen!(branches, "51b00005 graph");
screen!(collision, "51b00006 graph --critical-path");
screen!(tutorial, "9f3ac102 graph --critical-path");
screen!(running, "51b00007 graph");
screen!(running_path, "51b00007 graph --critical-path");
screen!(at_a_moment, "51b00006 graph --at 5");
screen!(failed, "51b00003 graph --critical-path");
screen!(mermaid, "9f3ac102 graph --format mermaid --critical-path");
screen!(dot, "51b00005 graph --format dot --critical-path");
screen!(svg, "51b00006 graph --format svg");
screen!(no_format, "51b00006 graph --format png");

/// A log with task names that contain the special characters of each output format.
fn hostile() -> Log {
    let log = Log::default();
    let tasks = vec![task("a\"b<c>&\\d\n", &[]), task("]; end", &["a\"b<c>&\\d\n"])];
    Recorder::start(&log, id(7), "w\"<&>", tasks, &[]).run("a\"b<c>&\\d\n", 1, |_| Ok(()));
    log
}

#[test]
fn names_cannot_break_out_of_a_language() {
    let written = |format: &str| replay(&hostile(), &format!("@ graph --format {format}")).out;
    let svg = written("svg");
    assert!(svg.contains("a&quot;b&lt;c&gt;&amp;\\d "), "{svg}");
    assert_eq!(svg.matches("<text").count(), 4);
    let dot = written("dot");
    assert!(dot.contains(r#"label="a\"b<c>&\\d\n"#), "{dot}");
    let mermaid = written("mermaid");
    assert!(mermaid.contains("a#34;b#60;c#62;#38;#92;d#10;") && mermaid.contains("#93;#59; end"), "{mermaid}");
}

/// The boxes of a picture: left side, upper side, width and height.
fn boxes(svg: &str) -> Vec<[i64; 4]> {
    let number = |text: &str, name: &str| -> i64 {
        let from = text.split(&format!(" {name}=\"")).nth(1).unwrap();
        from.split('"').next().unwrap().parse().unwrap()
    };
    let rects = svg.split("<rect").skip(1);
    rects.map(|text| [number(text, "x"), number(text, "y"), number(text, "width"), number(text, "height")]).collect()
}

/// Regression test: the edge was hidden behind the boxes.
#[test]
fn an_edge_over_several_columns_goes_around_the_boxes_between() {
    let log = Log::default();
    let tasks = vec![task("a", &[]), task("b", &["a"]), task("c", &["b", "a"])];
    Recorder::start(&log, id(7), "long", tasks, &[]);
    let svg = replay(&log, "@ graph --format svg").out;
    let [_, upper, _, height] = boxes(&svg)[1];
    let long = svg.split("<path d=\"").find_map(|path| path.split('"').next()?.split_once('H')).unwrap().0;
    let passes: i64 = long.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(passes < upper || passes > upper + height, "{svg}");
}

/// Every task of the graph has a box, and no two boxes overlap.
#[test]
fn boxes_of_a_picture_do_not_overlap() {
    let log = Log::default();
    let names: Vec<String> = (0..60).map(|number| format!("task_{number}")).collect();
    let tasks = names.iter().enumerate().map(|(number, name)| {
        let before: Vec<&str> =
            (1..=number % 4).filter_map(|back| Some(&*names[number.checked_sub(back * 3)?])).collect();
        task(name, &before)
    });
    let run = Recorder::start(&log, id(7), "many", tasks.collect(), &[]);
    drop(run);
    let svg = replay(&log, "@ graph --format svg").out;
    let boxes = boxes(&svg);
    assert_eq!(boxes.len(), 60);
    for (place, [x, y, width, height]) in boxes.iter().enumerate() {
        for [other_x, other_y, other_width, other_height] in &boxes[..place] {
            let apart = x + width <= *other_x
                || other_x + other_width <= *x
                || y + height <= *other_y
                || other_y + other_height <= *y;
            assert!(apart, "{:?} lies on another", boxes[place]);
        }
    }
}

#[test]
fn a_graph_that_no_rails_can_show_is_still_told() {
    let log = Log::default();
    let names: Vec<String> = (0..80).map(|number| format!("task_{number}")).collect();
    let tasks = names.iter().enumerate().map(|(number, name)| match number.checked_sub(40) {
        Some(before) => task(name, &[&names[before]]),
        None => task(name, &[]),
    });
    Recorder::start(&log, id(7), "many", tasks.collect(), &[]);
    let ran = replay(&log, "@ graph");
    assert_eq!(ran.code, 0);
    assert_eq!(ran.out.lines().filter(|line| line.contains("task_")).count(), 80);
}
