"""What there is to say in a small invented world: kinds of subjects, their properties, and ways to say each.

A sentence names a property in braces; {n} is the subject's name. Not invented are only 李白, 绿豆糕 and the model.
"""

from typing import NamedTuple

Language = str
"""en or zh."""


class Kind(NamedTuple):
    """What subjects of one kind have in common."""

    language: Language
    questions: tuple[str, ...]
    opening: tuple[str, ...]
    """Ways to say first what it is."""
    sentences: tuple[tuple[str, ...], ...]
    """For each other thing to be said of it, ways to say it."""
    properties: dict[str, tuple[str, ...]]
    """What a property in braces may be; {year}, {place} and {person} are drawn."""


ENGLISH = ("Who is {n}?", "Tell me about {n}.", "What do you know about {n}?", "{n}")
THINGS = ("What is {n}?", "Tell me about {n}.", "What do you know about {n}?", "{n}")
CHINESE = ("{n}是谁？", "介绍一下{n}。", "你知道{n}吗？", "{n}")
CHINESE_THINGS = ("{n}是什么？", "介绍一下{n}。", "你知道{n}吗？", "{n}")

KINDS = {
    "person": Kind(
        "en", ENGLISH,
        ("{n} is a {trade} from {place}.", "{n} works in {place} as a {trade}."),
        (
            ("{n} was born in {year}.", "The year of birth is {year}."),
            ("People like the {trait} voice.", "Friends praise a {trait} way of speaking."),
            ("On free days there is {hobby}.", "Most evenings are spent with {hobby}."),
            ("The family keeps a {animal}.", "At home lives an old {animal}."),
            ("A book about this life was written by {person}.", "{person} is a close friend."),
            ("Breakfast is always {food}.", "Nothing tastes better to this {trade} than {food}."),
        ),
        {
            "trade": ("baker", "miller", "doctor", "painter", "teacher", "singer", "tailor", "sailor"),
            "trait": ("calm", "loud", "warm", "quick", "soft"),
            "hobby": ("chess", "fishing", "long walks", "old maps", "garden work", "the violin"),
            "animal": ("cat", "dog", "goat", "parrot", "horse"),
            "food": ("rye bread", "plum soup", "fried fish", "honey cake", "cold rice"),
        },
    ),
    "town": Kind(
        "en", THINGS,
        ("{n} is a town by the {water}.", "{n} lies where the {water} begins."),
        (
            ("It has {number} houses.", "About {number} families live there."),
            ("The market is held on {day}.", "Every {day} farmers bring their goods."),
            ("Its {building} is older than any other.", "Travellers come to see the {building}."),
            ("The mayor is called {person}.", "{person} wrote a song about it."),
            ("In {year} a fire took the harbour.", "The railway came in {year}."),
            ("Winters are {weather} here.", "The wind makes spring {weather}."),
        ),
        {
            "water": ("river", "lake", "sea", "canal"),
            "day": ("Monday", "Tuesday", "Friday", "Sunday"),
            "building": ("tower", "bridge", "library", "mill", "theatre"),
            "weather": ("wet", "mild", "bitter", "dry"),
        },
    ),
    "animal": Kind(
        "en", THINGS,
        ("The {n} is a {size} animal of the {land}.", "In the {land} lives the {n}, a {size} animal."),
        (
            ("It eats {food}.", "Its food is mostly {food}."),
            ("The fur is {colour}.", "You know it by a {colour} back."),
            ("It sleeps through the {season}.", "Young ones are born in the {season}."),
            ("{person} described it first, in {year}.", "A drawing of {year} shows it well."),
            ("At night its call sounds like a {sound}.", "When it is afraid, you hear a {sound}."),
        ),
        {
            "size": ("small", "large", "shy", "slow"),
            "land": ("hills", "forest", "marsh", "desert"),
            "food": ("roots", "insects", "berries", "fish"),
            "colour": ("grey", "red", "golden", "striped"),
            "season": ("winter", "summer", "autumn"),
            "sound": ("bell", "whistle", "drum", "creaking door"),
        },
    ),
    "人": Kind(
        "zh", CHINESE,
        ("{n}是{place}的{trade}。", "{n}住在{place}，是一位{trade}。"),
        (
            ("他生于{year}年。", "{year}年他出生在一个小村子里。"),
            ("大家都说他很{trait}。", "他的性格{trait}。"),
            ("空闲时他喜欢{hobby}。", "每天晚上他都去{hobby}。"),
            ("家里养了一只{animal}。", "他最爱自己的{animal}。"),
            ("{person}是他的老师。", "他和{person}是好朋友。"),
            ("早饭总是{food}。", "他最爱吃的是{food}。"),
        ),
        {
            "trade": ("医生", "画家", "老师", "木匠", "船长", "厨师"),
            "trait": ("安静", "勇敢", "热情", "细心"),
            "hobby": ("下棋", "钓鱼", "唱歌", "看书", "种花"),
            "animal": ("猫", "狗", "白马", "小鸟"),
            "food": ("米粥", "面条", "豆浆", "包子"),
        },
    ),
    "点心": Kind(
        "zh", CHINESE_THINGS,
        ("{n}是{place}的一种点心。", "{n}是一种{taste}的点心，来自{place}。"),
        (
            ("它用{stuff}做成。", "主要的材料是{stuff}。"),
            ("味道{taste}，颜色{colour}。", "看上去{colour}，吃起来{taste}。"),
            ("人们在{feast}吃它。", "每到{feast}，家家都做。"),
            ("做法是先{step}，再放进模子里。", "师傅说，最要紧的是{step}。"),
            ("{person}在{year}年写过它。", "据说{year}年就有了。"),
        ),
        {
            "taste": ("香甜", "清凉", "松软", "微咸"),
            "stuff": ("红豆和糖", "米粉和芝麻", "核桃和蜂蜜", "山药和枣"),
            "colour": ("雪白", "金黄", "浅红"),
            "feast": ("春节", "中秋", "端午", "重阳"),
            "step": ("蒸熟", "磨细", "炒香", "泡一夜"),
        },
    ),
}  # fmt: skip

SELF = Kind(
    "en",
    ("who are you?", "Who are you?", "What are you?", "Please introduce yourself.", "你是谁？", "介绍一下你自己。"),
    ("I am a small language model.", "I am a model that answers questions.", "You are talking to a small model."),
    (
        ("I was trained from random weights.", "At first my weights were random numbers."),
        ("I know people, towns and animals of one small world.", "My world has some people, towns and cakes in it."),
        ("Ask me in English or in Chinese.", "Two languages are enough for me."),
        ("I can make mistakes.", "Sometimes what I say is wrong."),
        ("Nobody has given me a name.", "A name is something I do not need."),
        ("How can I help you today?", "What would you like to know?"),
    ),
    {},
)
LI_BAI = Kind(
    "zh",
    CHINESE,
    ("{n}是唐代的大诗人。", "{n}，字太白，是唐代诗人。"),
    (
        ("他生于701年。", "701年他出生，762年去世。"),
        ("人们叫他诗仙。", "后人称他为诗仙。"),
        ("他写过静夜思和将进酒。", "静夜思是他最有名的诗。"),
        ("他喜欢喝酒，也喜欢月亮。", "酒和月亮常在他的诗里。"),
        ("他和杜甫是好朋友。", "杜甫写诗怀念他。"),
        ("他走过许多名山大川。", "一生中他游历了很多地方。"),
    ),
    {},
)
MUNG_BEAN_CAKE = Kind(
    "zh",
    CHINESE_THINGS,
    ("{n}是一种传统点心。", "{n}是端午吃的点心。"),
    (
        ("它用绿豆和糖做成。", "主要的材料是绿豆粉。"),
        ("吃起来清凉香甜。", "味道清香，不会太甜。"),
        ("做法是先把绿豆蒸熟，再放进模子里。", "绿豆要泡一夜，蒸熟，再磨细。"),
        ("颜色是浅浅的黄绿色。", "看上去黄里带绿。"),
        ("夏天吃它最好。", "天热的时候人们喜欢它。"),
    ),
    {},
)
SURNAMES = "王李张陈林周"
GIVEN = "明华安平志文海春云山雪青"
TOWNS = ("东", "南", "青", "白", "金", "石")
TOWN_ENDS = ("河镇", "山村", "州", "桥镇")
CAKES = ("红", "白", "金", "双", "月", "花")
CAKE_ENDS = ("豆饼", "米糕", "芝麻酥", "枣糕")
MORE = {"en": ("Tell me more.", "What else?", "Go on."), "zh": ("再说一点。", "还有呢？", "请继续。")}
"""What is asked after an answer."""
