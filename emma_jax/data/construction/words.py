"""Texts that are rendered where no file of others is given."""

PHRASES = {
    "en": (
        "OPEN", "CLOSED", "Welcome", "Coffee", "Fresh Bread", "Summer Sale",
        "Happy Birthday", "Good Morning", "Exit", "Library", "No Parking",
        "Wet Paint", "Thank You", "Grand Opening", "50% OFF", "Est. 1987",
        "Road Closed", "Ice Cream", "Book Fair", "Jazz Night", "Stay Curious",
        "Room 204", "Dream Big", "Farmers Market", "Platform 9", "Keep Left",
        "Do Not Disturb", "Flight 318", "The End", "Hello, World!",
        "Art & Design", "Tea House", "Mind the Gap", "Lost & Found",
        "Movie Night", "Live Music", "Be Kind", "Winter Games", "Pizza",
        "Train Station", "Made by Hand", "Quiet Please", "Garden Party",
        "Science Week", "Push", "Pull", "Order Here", "Best of Luck",
    ),
    "zh": (
        "欢迎光临", "营业中", "出口", "入口", "图书馆", "咖啡", "茶馆",
        "面包店",
        "生日快乐", "新年快乐", "早上好", "谢谢", "请勿吸烟", "小心地滑",
        "安静", "火车站", "机场", "夏季特卖", "学习", "春天", "音乐会",
        "北京", "上海", "你好世界", "科学周", "电影之夜", "手工制作",
        "花园", "冰淇淋", "推", "拉", "书店", "平安", "天天向上", "中国制造",
        "请排队", "停车场", "医院", "学校", "美食节",
    ),
}  # fmt: skip
