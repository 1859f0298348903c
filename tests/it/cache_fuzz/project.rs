//! A random project, a context and a Dockerfile, and what an engineer does to it between two builds.
//!
//! Its stages are those that went wrong in real projects: some make files, some start from those, some only collect what others
//! made. Files are few, of one length and often of one time, so that whatever tells them apart by less than their content does
//! not.

use std::collections::BTreeMap;

use super::random::Random;

/// Where files of a context may be. The last ones are not UTF-8, and look the same to who replaces what is not.
pub(super) const PATHS: [&[u8]; 9] =
    [b"a", b"b", b"c", b"d/x", b"d/y", b"d/sub/z", b"d/n\xff", b"d/n\xfe", b"d/\xc3\x28"];
/// Where instructions put files.
pub(super) const TARGETS: [&str; 8] = ["/v", "/w", "/x", "/y", "/z", "/out", "/dir/f", "/dir/g"];

/// A file of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: String,
    pub(super) mode: u32,
}

/// What a stage starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Scratch,
    /// An image with a shell.
    Busybox,
    /// One of the stages before, by a number that is brought into their range.
    Stage(usize),
}

/// An instruction. Numbers choose among what there is where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Copy {
        source: usize,
        target: usize,
        flags: usize,
    },
    CopyDirectory,
    CopyFrom {
        stage: usize,
        source: usize,
        target: usize,
        flags: usize,
    },
    Document {
        target: usize,
        text: String,
    },
    Write {
        target: usize,
        text: String,
    },
    Concatenate {
        source: usize,
        target: usize,
    },
    /// A command that changes nothing: its layer is as empty as that of any other.
    Nothing(String),
    Remove {
        target: usize,
    },
    /// Names and contents of a directory of the context, or of all of it.
    Bind {
        all: bool,
        target: usize,
    },
    BindFrom {
        stage: usize,
        source: usize,
        target: usize,
    },
    CacheMount(String),
    Variable {
        is_argument: bool,
        text: String,
    },
    Proxy {
        text: String,
        is_declared: bool,
    },
    WriteVariables {
        target: usize,
    },
    WorkingDirectory(String),
    Label(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) base: Base,
    pub(super) steps: Vec<Step>,
}

/// What is on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) parallel: Option<usize>,
    pub(super) reproducible: bool,
    pub(super) copy_layers: bool,
    pub(super) argument: String,
}

/// What a project is like, and what happens to it most often: shapes in which something went wrong once are not left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// Whatever there may be.
    Any,
    /// Stages that hold the same names with other contents of the same length and time, one after the other on the same disk.
    Twins,
    /// Stages that start from others which are known, and whose files are wanted all the same.
    Children,
    /// Names that are no text.
    Names,
    /// A cache in a directory whose files are damaged.
    Rot,
}

impl Theme {
    /// Of five projects one of each.
    pub(super) fn of(seed: u64) -> Self {
        [Self::Any, Self::Twins, Self::Children, Self::Names, Self::Rot][usize::try_from(seed % 5).unwrap()]
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    pub(super) theme: Theme,
    pub(super) files: BTreeMap<Vec<u8>, File>,
    pub(super) stages: Vec<Stage>,
    pub(super) flags: Flags,
    /// All files of a checkout have one time, as out of `git archive`.
    pub(super) equal_times: bool,
    /// Comments, blank lines and ignored files so far.
    pub(super) remarks: usize,
    /// How often the stages have been renamed.
    renamed: usize,
}

impl Stage {
    /// It gets its name with the others.
    fn new(base: Base, steps: Vec<Step>) -> Self {
        Self { name: String::new(), base, steps }
    }
}

impl Project {
    pub(super) fn new(theme: Theme, random: &mut Random) -> Self {
        let mut project = Self::any(theme, random);
        match theme {
            Theme::Any => {}
            Theme::Twins => project.become_twins(random),
            Theme::Children => project.become_children(random),
            Theme::Names => {
                project.files.insert(b"d/n\xff".to_vec(), File { content: random.token(), mode: 0o644 });
                project.files.remove(b"d/n\xfe".as_slice());
                let bind = Step::Bind { all: random.percent(50), target: 0 };
                project.stages = vec![Stage::new(Base::Busybox, vec![Step::CopyDirectory, bind, step(random)])];
            }
            // A step that is carried out again makes the same bytes again.
            Theme::Rot => project.flags.reproducible = true,
        }
        project.rename();
        project
    }

    /// A stage that collects what each of these made, and one that has it all.
    fn collect(&mut self, mut makers: Vec<Stage>, random: &mut Random) {
        let count = makers.len();
        let copy = |stage, source, target| Step::CopyFrom { stage, source, target, flags: 9 };
        for stage in 0..count {
            let files = makers[stage].steps.len();
            let mut steps: Vec<Step> = (0..files).map(|number| copy(stage, number, number)).collect();
            steps.extend(random.percent(30).then(|| step(random)));
            makers.push(Stage::new(Base::Scratch, steps));
        }
        makers.push(Stage::new(Base::Scratch, (0..count).map(|number| copy(count + number, number, number)).collect()));
        self.stages = makers;
    }

    fn become_twins(&mut self, random: &mut Random) {
        let twins = [("a", "aa"), ("b", "bb"), ("c", "cc")];
        for (name, content) in twins {
            self.files.insert(name.into(), File { content: content.to_owned(), mode: 0o644 });
        }
        let by_command = random.percent(30);
        let make = |number: usize, target: usize| match by_command {
            true => Step::Write { target, text: twins[number].1.to_owned() },
            false => Step::Copy { source: number, target, flags: 9 },
        };
        // A tree of these files alone gets the inodes of the one that was removed before it; each file is one more that can.
        let base = if by_command { Base::Busybox } else { Base::Scratch };
        let maker = |number| Stage::new(base, (0..TARGETS.len()).map(|target| make(number, target)).collect());
        self.collect((0..twins.len()).map(maker).collect(), random);
        self.equal_times = true;
        self.flags.reproducible |= by_command;
        self.flags.parallel = Some(1);
        self.flags.copy_layers = true;
    }

    fn become_children(&mut self, random: &mut Random) {
        let write = |random: &mut Random| vec![Step::Write { target: 0, text: random.token() }];
        let mut makers = vec![Stage::new(Base::Busybox, write(random))];
        for number in 0..1 + random.below(2) {
            makers.push(Stage::new(Base::Stage(number), write(random)));
        }
        self.collect(makers, random);
        self.flags.parallel = *random.pick(&[None, Some(8)]);
    }

    fn any(theme: Theme, random: &mut Random) -> Self {
        let mut files = BTreeMap::new();
        for path in PATHS {
            if random.percent(60) || matches!(path, b"a" | b"b" | b"d/x") {
                files.insert(path.to_vec(), File { content: random.token(), mode: mode(random) });
            }
        }
        let mut stages = Vec::new();
        for number in 0..1 + random.below(3) {
            let base = match random.below(8) {
                0..2 if number > 0 => Base::Stage(random.below(number)),
                2..4 if number > 0 => Base::Stage(number - 1),
                7 => Base::Scratch,
                _ => Base::Busybox,
            };
            let steps = (0..1 + random.below(3)).map(|_| step(random)).collect();
            stages.push(Stage::new(base, steps));
        }
        for number in 0..random.below(4) {
            let base = if random.percent(80) { Base::Scratch } else { Base::Busybox };
            let mut steps = vec![copy_from(number, random)];
            steps.extend((0..random.below(2)).map(|_| copy_from(random.below(8), random)));
            stages.push(Stage::new(base, steps));
        }
        let base = match random.below(3) {
            0 => Base::Scratch,
            1 => Base::Busybox,
            _ => Base::Stage(random.below(8)),
        };
        let mut steps: Vec<Step> = (0..1 + random.below(3)).map(|number| copy_last(number, random)).collect();
        steps.extend((0..random.below(3)).map(|_| step(random)));
        stages.push(Stage::new(base, steps));
        let flags = Flags {
            parallel: *random.pick(&[Some(1), Some(1), None, None, Some(8)]),
            reproducible: random.percent(50),
            copy_layers: random.percent(50),
            argument: random.token(),
        };
        Self { theme, files, stages, flags, equal_times: random.percent(70), remarks: 0, renamed: 0 }
    }

    fn rename(&mut self) {
        self.renamed += 1;
        for (number, stage) in self.stages.iter_mut().enumerate() {
            stage.name = format!("s{number}x{}", self.renamed);
        }
    }

    /// An edit after which an image may be another one, told in a word.
    pub(super) fn edit(&mut self, random: &mut Random) -> &'static str {
        let paths: Vec<Vec<u8>> = self.files.keys().cloned().collect();
        let path = random.pick(&paths).clone();
        let stage = random.below(self.stages.len());
        let usual = match self.theme {
            Theme::Twins | Theme::Children => Some(0),
            Theme::Names => Some(7),
            Theme::Any | Theme::Rot => None,
        };
        match usual.filter(|_| random.percent(75)).unwrap_or_else(|| random.below(20)) {
            0..4 => {
                self.rename();
                "rename the stages"
            }
            4..6 => {
                self.files.insert(path, File { content: random.token(), mode: mode(random) });
                "write a file"
            }
            6 => {
                let other = random.pick(&paths);
                let (one, two) = (self.files[&path].clone(), self.files[other].clone());
                self.files.insert(path, two);
                self.files.insert(other.clone(), one);
                "exchange two files"
            }
            7..10 => {
                let other = random.pick(&PATHS).to_vec();
                // Half of the time among the names that are hard to tell apart.
                let hard: Vec<&Vec<u8>> = paths.iter().filter(|path| path.starts_with(b"d/n")).collect();
                let (from, to) = match hard.first() {
                    Some(from) if random.percent(80) => ((*from).clone(), flipped(from)),
                    _ => (path, other),
                };
                let file = self.files.remove(&from).unwrap();
                self.files.insert(to, file);
                "rename a file"
            }
            10 => {
                if self.files.len() > 2 {
                    self.files.remove(&path);
                }
                "remove a file"
            }
            11 => {
                self.files.insert(random.pick(&PATHS).to_vec(), File { content: random.token(), mode: 0o644 });
                "add a file"
            }
            12..15 => {
                let steps = &mut self.stages[stage].steps;
                let place = random.below(steps.len() + 1);
                steps.insert(place, step(random));
                "insert an instruction"
            }
            15 => {
                let steps = &mut self.stages[stage].steps;
                if steps.len() > 1 {
                    steps.remove(random.below(steps.len()));
                }
                "remove an instruction"
            }
            16..18 => {
                let steps = &mut self.stages[stage].steps;
                if let Some(changed) = steps.last_mut() {
                    *changed = step(random);
                }
                "replace an instruction"
            }
            18 => {
                self.flags.argument = random.token();
                "another argument"
            }
            _ => {
                self.flags.parallel = *random.pick(&[Some(1), None, Some(8)]);
                "another --parallel"
            }
        }
    }
}

/// A name that text cannot tell from this one.
fn flipped(name: &[u8]) -> Vec<u8> {
    let mut other = name.to_vec();
    if let Some(last) = other.last_mut() {
        *last ^= 1;
    }
    other
}

fn mode(random: &mut Random) -> u32 {
    *random.pick(&[0o644, 0o644, 0o644, 0o755, 0o600])
}

fn copy_from(stage: usize, random: &mut Random) -> Step {
    Step::CopyFrom { stage, source: random.below(8), target: random.below(TARGETS.len()), flags: random.below(12) }
}

/// Of a stage that stands so far before this one.
fn copy_last(distance: usize, random: &mut Random) -> Step {
    copy_from(usize::MAX - distance, random)
}

fn step(random: &mut Random) -> Step {
    let target = random.below(TARGETS.len());
    match random.below(24) {
        0..4 => Step::Copy { source: random.below(8), target, flags: random.below(12) },
        4..6 => Step::CopyDirectory,
        6..9 => copy_from(random.below(8), random),
        9 => Step::Document { target, text: random.token() },
        10..13 => Step::Write { target, text: random.token() },
        13 => Step::Concatenate { source: random.below(8), target },
        14 => Step::Nothing(random.token()),
        15 => Step::Remove { target },
        16 => Step::Bind { all: random.percent(30), target },
        17 => Step::BindFrom { stage: random.below(8), source: random.below(8), target },
        18 => Step::CacheMount(random.token()),
        19 => Step::Variable { is_argument: random.percent(50), text: random.token() },
        20 => Step::Proxy { text: random.token(), is_declared: random.percent(70) },
        21 => Step::WriteVariables { target },
        22 => Step::WorkingDirectory(random.token()),
        _ => Step::Label(random.token()),
    }
}
