"""Function words of the languages that share an alphabet, for the language measure to tell apart by itself.

Small words carry a text's grammar, so they give a language away where a formula-ridden sentence is too
short for a statistical detector. Words that English mathematics has too (die, per, plus, son) stand under
English as well, so that they speak for neither; single Latin letters are left out, they are variables. Where
an alphabet has one language of those measured (Korean, Arabic, Hindi, ...) its letters are enough.
"""

FUNCTION_WORDS: dict[str, str] = {
    "en": """the of and to in is are was were be been being it its that this these those with for on at by
        from as or but not if so we us our you your they them their he she his him her me my which what when
        where who how why there here have has had having do does did can could will would should may might
        must shall let also than while whether each every any all some both either neither such same other
        another only just very more most less few many much now first still too into onto over under between
        through before after about against during within per up down out off no nor yet one two three four
        get gets got give gives given see know say says mean means need right well maybe actually suppose
        note don't doesn't isn't can't let's that's it's we're we've we'll there's won't didn't am an use
        using find way since next then than once again die man plus son want hat van door met sea war pour
        come car era due um ten her pro via sin non hay i'm i've i'll i'd it'll they're you're doesn't haven't hasn't
        wouldn't couldn't shouldn't wasn't aren't weren't what's here's
        check checking small smaller large larger equal equals correct wrong odd even positive negative number
        numbers find found solve solving try trying again case cases first second third times square squared
        side sides left right term terms rearranging simplify substitute increasing decreasing possible
        together remaining already because cannot above below last following must rather instead since""",
    "fr": """le la les un une des de et est sont dans pour par sur avec sans que qui quoi dont où ce cette
        ces cet il elle on nous vous ils elles se ne pas plus ou mais ni si aux au en être avoir ont été
        était comme quand lorsque chaque tout tous toute toutes deux trois même aussi entre soit sera peut
        doit faut leur leurs notre son sa ses mon ma je tu donc alors puis car qu'il qu'on c'est n'est
        d'où l'on s'il j'ai qu'une qu'un d'un d'une obtient obtenons cela ceci celui celle ainsi encore
        fois très avons avez suis vais fait donne nombre égal égale égaux droite côté supposons posons
        montrer trouver calculons remarque nos votre vos sinon serait étaient dès lors parmi depuis vers chez jusque""",
    "de": """der die das den dem des ein eine einen einem einer eines und oder aber nicht ist sind war wird
        werden wurde hat haben sein mit von zu zum zur im in am an auf aus bei für durch über unter nach vor
        wenn dann also da dass weil damit wie was wer wir ich er sie es man ihr uns unser sich nur noch
        schon auch so kann können muss müssen soll gilt sei jetzt nun hier alle jede jeder jedes kein keine
        beide zwei drei mehr als bis gibt diese dieser dieses somit um dasselbe derselbe ergibt erhalten
        ganze gerade ungerade gleich größer kleiner einmal nochmal wieder immer genau daraus davon
        dabei deren dessen ob doch nämlich mal sehr unsere unserer unserem unseren würde wäre sonst denen
        werte wert zahl zahlen""",
    "es": """el la los las un una unos unas de del al en es son ser está están por para con sobre entre pero
        porque si no como cuando donde cual quien qué se su sus lo le les nos más menos muy también cada
        todo todos toda todas este esta estos estas ese esa eso esto hay tiene tenemos debe puede podemos
        sea ya dos tres ambos aunque mientras desde hasta según que así ahora luego entonces queda quedan
        solo sólo otra otro voy vamos tener obtenemos resultado número números igual suma mismo misma
        aquí ahí fue había ni y nuestra nuestro sería cual sino debemos además""",
    "it": """il lo la gli le un uno una di del dello della dei degli delle al allo alla ai agli alle da dal
        dalla in nel nella nei con su sul sulla per tra fra ed ma che cui non è sono era essere ha hanno
        abbiamo si se come quando dove anche più meno molto questo questa questi queste quello quella ogni
        tutto tutti tutte due tre ci ne deve può possiamo sia siano poi ora così quindi allora dunque perché
        però c'è cioè ancora volta stesso stessa solo infatti inoltre bisogna dobbiamo abbiano otteniamo
        numero numeri uguale somma risultato essendo entrambi ottiene quadrato troviamo nostra nostro
        sarebbe altrimenti inoltre""",
    "pt": """os as um uma uns umas de do da dos das ou em no na nos nas por pelo pela para com sem que se
        não é são foi ser está estão mas porque como quando onde qual quais quem seu sua seus suas mais
        menos muito também cada todo todos toda todas este esta estes estas esse essa isso isto há tem temos
        deve pode podemos seja já dois duas três ambos entre até sobre então logo portanto assim agora ao
        aos à às só ainda mesmo mesma outra outro vou vamos preciso obtemos resultado número números soma
        igual aqui nem ele ela eles elas dele dela metade basta temos vezes achar encontrar nossa nosso
        seria senão devemos além""",
    "nl": """de het een en van in op te is zijn waren wordt worden werd met voor aan bij uit door over naar
        om dat die dit deze er als of maar want dan ook niet geen wel nog al we wij ik je hij zij ze hun ons
        onze elk elke alle kan kunnen moet moeten zal zullen hebben heeft geldt tussen twee drie meer wat
        wie waar hoe zo zodat dus daarom omdat blijft blijven maal keer hetzelfde dezelfde weer nu eens
        getal getallen gelijk geeft krijgen krijgt laten laat eerst eerste waarbij hierbij
        daarna daar hier zich beide alleen zou zouden anders waarde waarden""",
    "vi": """là và của các những một có không được cho trong với ta nên thì nếu vậy do đó này khi từ đến để
        mà như hay hoặc cũng đã đang sẽ phải bằng lại chỉ mỗi hai ba bốn năm số tổng góc cạnh rằng vì bởi
        nhưng tuy nhiên chúng mình gọi giả sử suy ra đúng sai trên dưới theo tại còn nhau rồi""",
    "tr": """ve bir bu için ile de da ki mi ne çok daha olan olarak olur ise gibi kadar sonra önce her iki
        üç değil var yok ama fakat çünkü veya ya eğer bunu buna bunun şimdi şu o hem en ancak sadece tüm
        zaman böylece öyleyse dolayısıyla yani elde ederiz olsun olduğu olduğunu göre tane sayı sayısı
        sayının toplam toplamı eşit eşittir kez kalır verir diyelim bulalım hep bize""",
    "ru": """и в не на что это как но по из так же если то для при от до или мы он она они его их все всё уже
        только где когда поэтому потому однако значит следовательно тогда есть быть был была было равно
        равен равна равны чтобы нет ещё еще также этот эта эти этого того можно нужно надо получаем получим
        пусть к с у о а за со ко об бы ли же чем без над под между после перед который которая которые
        которое каждый каждая каждое один два три сумма число числа угол углы нам нас себя там тут здесь
        сейчас снова раз самый тот та те чего теперь итак""",
    "uk": """і й та в у не на що це як але по з із зі так же якщо то для при від до або чи ми він вона вони
        його їх усі всі все вже тільки лише де коли тому проте отже оскільки тоді є бути був була було
        дорівнює рівний рівна рівні щоб немає ще також цей ця ці цього того можна треба потрібно отримаємо
        маємо нехай за о об би ж чим ніж без над під між після перед який яка які яке кожен кожна кожне один
        два три сума число числа кут кути нам нас себе там тут зараз знову раз самий той та ті чого тепер
        значить бо хоча""",
}
"""Language -> its words, lower case."""

MARKERS: dict[str, str] = {
    "en": """so wait therefore however because thus hence alternatively then since whereas actually next
        moreover furthermore otherwise finally suppose which there should let's""",
    "fr": """donc alors puis ainsi cependant parce puisque ensuite enfin abord lorsque vérifions voyons
        attendons attends toutefois supposons réponse résultat""",
    "de": """daher deshalb aber weil wobei nämlich denn zuerst außerdem folglich jedoch dann somit deswegen
        allerdings trotzdem moment ergebnis antwort lösung""",
    "es": """entonces luego porque pero así ahora además primero después aunque espera verifiquemos embargo
        comprobemos veamos pues respuesta solución""",
    "it": """quindi allora dunque perché però poi così infine adesso aspetta verifichiamo tuttavia pertanto
        poiché vediamo risposta""",
    "pt": """então logo portanto porque assim agora primeiro depois também espera verificamos verificar porém
        entretanto espere vejamos pois resposta""",
    "nl": "dus daarom omdat maar wacht eerst vervolgens bovendien zodat echter doordat want hierdoor antwoord",
    "vi": "vậy nhưng vì nên nếu bởi tuy nhiên thì",
    "tr": "çünkü ancak dolayısıyla öyleyse yani böylece ama fakat bekle şimdi demek cevap",
    "ru": "поэтому однако значит следовательно потому тогда подождите стоп итак теперь проверим ответ",
    "uk": "тому проте отже оскільки тоді зачекайте однак перевіримо тепер відповідь",
}
"""Words that open a step of reasoning: languages mostly switch at them, so each counts double."""

LETTERS: dict[str, str] = {
    "vi": "[áàãâéèêíìóòôõúùýăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]",
    "tr": "[ğışçöü]|[iuü]yor|[ei]miz$",
    "de": "[äöüß]|keit$",
    "es": "[ñáéíóú]|ción$|ciones$|[aei]mos$",
    "pt": "[ãõáéíóúâêôç]|ção$|ções$|[aei]mos$",
    "it": "[àèéìòù]$|zione$|zioni$|iamo$",
    "fr": "[œéèêûîâôçëï]|eaux$",
    "nl": "^ij|[lr]ijk|heid$",
    "ru": "[ыэъё]|ние$|т[ь]?ся$",
    "uk": "[іїєґ]|тися$|ння$",
}
"""Language -> pattern of letters or endings that few other languages of its alphabet have."""

PARTICLES = frozenset(
    "de la le les du des del della dei di da do dos das der den dem van von vom zu zur ten ter el al los las san y e"
    " und et lo af av".split()
)
"""Words that stand in names: no sign of a language in front of a capital."""

BORROWED = frozenset(
    tuple(phrase.split())
    for phrase in (
        "per se|et al|de facto|de jure|au lait|au vin|au pair|à la|a la|pro rata|raison d'être|vis à|en route|"
        "en passant|en masse|pro bono|quid pro|in situ|in vitro|in vivo|ad hoc|status quo|non sequitur|sine qua|"
        "qua non|du jour|hors d'oeuvre|faux pas|avant garde|en bloc|ex ante|ex post|coup d'état|carte blanche|"
        "la vie|et voilà"
    ).split("|")
)
"""Pairs of neighbours that are at home in several languages."""

# No sign of a language in a text of another script: formula names and keywords of programs, in lower case.
FORMULA = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp lim max min sup inf gcd lcm mod det"
    " deg dim ker arg sqrt frac cdot times text boxed pmod".split()
)
KEYWORD = frozenset(
    "for while if else elif in is not and or do def return break try int let var new del of".split()
)
# Nor, by themselves, words that technical terms are made of ("two pointers", "even number").
TERM = frozenset(
    "one two three four first second third last times square squared side sides left right term terms number numbers"
    " case cases odd even positive negative equal equals possible small smaller large larger increasing"
    " decreasing".split()
)
